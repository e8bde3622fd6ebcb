"""HTTP servers of ours: what uvicorn does not bound, does not answer, or loses when it ends."""
