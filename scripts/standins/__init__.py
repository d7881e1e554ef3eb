"""Servers that stand in for services that this machine cannot reach: GitHub and its storage."""
