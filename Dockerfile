ARG PYTHON=3.13

FROM python:${PYTHON}-slim AS build
WORKDIR /src
COPY . .
RUN python -m venv /opt/index
RUN /opt/index/bin/pip install --no-cache-dir '.[fast]'

FROM python:${PYTHON}-slim
COPY --from=build /opt/index /opt/index
# Volumes inherit this owner. The group is root's, and may write, for platforms that give a container any user at all.
RUN install -d -o 10001 -g 0 -m 0775 /data /data/packages /data/cache
USER 10001:0
# The root may be read-only: whatever is written goes to a volume, uploads under way (TMPDIR) included. HOME makes
# /data/packages the default, where a variable would win over the packages that a file of settings names.
ENV PATH=/opt/index/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/data \
    TMPDIR=/data/cache \
    PYPISERVER_LITE_HOST=0.0.0.0 \
    PYPISERVER_LITE_PORT=8080 \
    PYPISERVER_LITE_CACHE_DIR=/data/cache \
    PYPISERVER_LITE_HEALTH_ENDPOINT=/health
WORKDIR /data
VOLUME ["/data/packages", "/data/cache"]
EXPOSE 8080
# The base image has no curl; urllib would ask the proxy of the environment. Kubernetes may put a Service's address in PORT.
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s CMD ["python", "-c", "import http.client, os; p = os.environ['PYPISERVER_LITE_PORT']; c = http.client.HTTPConnection('127.0.0.1', int(p) if p.isdigit() else 8080, timeout=4); c.request('GET', os.environ['PYPISERVER_LITE_HEALTH_ENDPOINT']); raise SystemExit(c.getresponse().status != 200)"]
# The exec form: SIGTERM reaches the server itself. A verb may follow the image's name, or options of run, or nothing.
ENTRYPOINT ["pypiserver-lite"]
