"""The photos that the service kept (COLLECT_TO): `store` reads and deletes them, `command` is for operators.

`ml.model.kept_photos` defines the files; the service writes them.
"""
