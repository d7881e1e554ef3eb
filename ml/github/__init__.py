"""GitHub's REST API, as far as releases need it (https://docs.github.com/rest/releases)."""
