"""The endpoints, one blueprint per module.

`predict` and `feedback` are for clients, `operations` for operators and their machines (health,
model, metrics).
`page` is for people and `docs` for developers. `uploads` reads the photos of a request, `auth` checks keys.
"""
