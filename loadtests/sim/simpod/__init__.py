"""The engine model behind HTTP: simulated pods that speak the dialect of vLLM, with faults to switch on."""
