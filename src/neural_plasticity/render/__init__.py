"""Drawing: the console and the page. Everything drawn comes from `neural_plasticity.views` or from the events."""
