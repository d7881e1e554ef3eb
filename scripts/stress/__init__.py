"""What the scripts share that put the service under load: what is sent, when, and over which wire."""
