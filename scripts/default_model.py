"""Embed models/model.pt in the service, as app/default/model.pt, and write its card to docs/MODEL_CARD.md."""

import sys
from pathlib import Path

from ml.model import bundle
from ml.model.errors import BundleError
from ml.model.files import replaced
from ml.paths import MODEL
from scripts.common import arguments

DEFAULT, CARD = Path("app/default/model.pt"), Path("docs/MODEL_CARD.md")


def main() -> int:
    """Embed the model; return the exit code."""
    parser = arguments.parser("default_model", __doc__, "--candidate")
    parser.add_argument("--candidate", action="store_true", help="embed it even if it is only a candidate")
    accepts_candidate = parser.parse_args().candidate
    try:
        model = bundle.read(MODEL)
    except (OSError, BundleError) as error:
        print(f"error: {MODEL}: {error}", file=sys.stderr)
        return 1
    if model.manifest.shortfalls and not accepts_candidate:
        lacking = "; ".join(model.manifest.shortfalls)
        print(f"error: {MODEL} is only a candidate ({lacking}); add --candidate to embed it", file=sys.stderr)
        return 1
    with replaced(DEFAULT) as file:
        file.write(MODEL.read_bytes())
    CARD.write_text(model.card, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
