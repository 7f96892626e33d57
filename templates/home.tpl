<!DOCTYPE html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <meta name="color-scheme" content="light dark">
  <title>Python package index</title>
  <style>
    body { max-width: 44rem; margin: 2rem auto; padding: 0 1rem; font: 1rem/1.5 system-ui, sans-serif; }
    pre { padding: .75rem 1rem; overflow-x: auto; border: 1px solid #8886; border-radius: .4rem; background: #8881; }
    h2 { margin-top: 2rem; }
  </style>
</head>
<body>
<main>
  <h1>Python package index</h1>
  <p>
    <a href="{{SIMPLE}}">{{NUMPKGS}} project{{"" if NUMPKGS == 1 else "s"}}</a> here.
% if fallback:
    A name that is not here comes from the upstream index.
% end
  </p>

  <h2>Install</h2>
% trust = "" if secure or host.startswith(("127.0.0.1", "localhost", "[::1]")) else " --trusted-host " + host.rsplit(":", 1)[0]
% option = "--index-url" if fallback else "--extra-index-url"
  <p>With pip:</p>
  <pre>pip install {{option}} {{URL}}simple/{{trust}} PROJECT</pre>
  <p>With uv:</p>
  <pre>uv pip install {{"--default-index" if fallback else "--index"}} {{URL}}simple/ PROJECT</pre>
  <p>For good, on this computer:</p>
  <pre>pip config set global.{{option[2:]}} {{URL}}simple/</pre>

  <h2>Publish</h2>
% if uploads:
  <p>With twine:</p>
  <pre>twine upload --repository-url {{URL}} dist/*</pre>
  <p>With uv:</p>
  <pre>uv publish --publish-url {{URL}} --check-url {{URL}}simple/ dist/*</pre>
% else:
  <p>Uploads are switched off: the server was started without a password file (<code>-P FILE</code>).</p>
% end
</main>
<footer>
  <p><small>pypiserver-lite {{VERSION}}</small></p>
</footer>
</body>
</html>
