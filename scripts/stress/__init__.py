"""The load and robustness tests of the service: their photos, HTTP clients and measurements."""
