"""The endpoints, one blueprint per module.

`predict`, `open_inference` and `feedback` are for clients, `operations` (health, model, metrics) for
operators and their machines, `page` for people, and `docs` for developers. `uploads` reads the photos of a
request, `auth` checks keys, `assets` sends files, `examples` finds the example photos, and `texts` chooses
the language. `documents` makes pages from Markdown, which `markdown` turns into HTML and `api_markdown` makes
from the API's description.
"""
