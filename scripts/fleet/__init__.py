"""A model of the fleet: pods behind a load balancer, and the autoscaler that adds and removes them."""
