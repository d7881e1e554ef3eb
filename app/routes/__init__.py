"""The endpoints, one blueprint per module.

`predict` and `feedback` are for clients, `operations` (health, model, metrics) for operators and their
machines, `page` for people, and `docs` for developers. `uploads` reads the photos of a request, `auth` checks
keys.
"""
