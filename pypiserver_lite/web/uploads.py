"""Publishing from a page: one file or several, by the same checks as any upload and with the same words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import bottle

from .. import upload
from ..config.values import shown_size
from ..errors import Denied, Invalid, PypiServerLiteError
from . import answers, changes, forms
from .acts import Acts
from .people import segment

if TYPE_CHECKING:
    from ..upload import Received


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """What became of a file that was sent."""

    filename: str
    said: str
    link: str = ""
    """To its project's page, from the index's root, if it was taken."""
    error: PypiServerLiteError | None = None


class Uploads(Acts):
    """An index that people publish in from a page. Whoever derives from it sets what `People` names."""

    def upload_page(self) -> answers.Answer:
        """A form for files."""
        return self._upload_page(())

    def upload_files(self) -> answers.Answer:
        """Take the files of a form, each by itself; as JSON for who asks for that."""
        sent = self.take_files()
        if not sent:
            raise Invalid("choose a file: the form came without one")
        wrong = next((one.error for one in sent if one.error is not None), None)
        if "application/json" not in bottle.request.environ.get("HTTP_ACCEPT", ""):
            return self._upload_page(sent, wrong)
        root = self._root()
        facts = [
            {
                "filename": one.filename,
                "taken": one.error is None,
                "said": one.said,
                "link": one.link and root + one.link,
            }
            for one in sent
        ]
        answer = answers.as_json({"files": facts})
        status = answer.status if wrong is None else self.refusal(wrong).status
        return answers.Answer(status=status, headers=answer.headers, body=answer.body)

    def take_files(self) -> Sequence[Sent]:
        """Publish the files of the form in hand. Raises Denied if it is not a form of the session that sends it."""
        environ = bottle.request.environ
        session, sent = self.session(environ), list[Sent]()

        def check(fields: Mapping[str, Sequence[str]]) -> None:
            given = next(iter(fields.get(forms.TOKEN, ())), None)
            self.check_form(session, environ.get("HTTP_X_CSRF_TOKEN", given))

        def take(fields: Mapping[str, Sequence[str]], filename: str, what: Received | PypiServerLiteError) -> None:
            sent.append(self._take(lambda: check(fields), filename, what))

        fields = upload.receive_each(
            changes.request_body(environ),
            environ.get("CONTENT_TYPE"),
            changes.content_length(environ),
            stage=self.site.store.stage,
            limit=self.site.settings.max_upload,
            take=take,
        )
        check(fields)
        return sent

    def _take(self, check: Callable[[], None], filename: str, what: Received | PypiServerLiteError) -> Sent:
        if isinstance(what, PypiServerLiteError):
            check()
            return Sent(filename=filename, said=str(what), error=what)
        assert what.upload is not None  # or it would be no file
        try:
            check()
            said = self._carried_out(what)
        finally:
            what.upload.staged.unlink(missing_ok=True)
        if isinstance(said, PypiServerLiteError):
            return Sent(filename=filename, said=str(said), error=said)
        place = f"project/{what.upload.project}/{segment(what.upload.version)}"
        return Sent(filename=filename, said=said, link=place)

    def _carried_out(self, received: Received) -> str | PypiServerLiteError:
        """What was done, or why it was not. Raises Denied for who has to sign in first."""
        try:
            return self.carry_out(received, bottle.request.environ)
        except PypiServerLiteError as error:
            if isinstance(error, Denied) and error.challenge:
                raise
            return error

    def _upload_page(self, sent: Sequence[Sent], wrong: PypiServerLiteError | None = None) -> answers.Answer:
        limit = self.site.settings.max_upload
        root = self._root()
        variables = {
            "sent": [(one.filename, one.said, one.link and root + one.link, one.error is None) for one in sent],
            "replaces": self.site.settings.overwrite,
            "limit": "" if limit is None else shown_size(limit),
        }
        # What is wrong stands beside its file.
        return self.once("upload", {**variables, "wrong": ""}, wrong)
