"""Dashboards that any training script can feed: every call becomes events on record before it is sent anywhere."""
