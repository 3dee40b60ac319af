"""A stand-in for MLC-LLM, with those of its entry points that ``mlc:CONFIG`` uses.

Its models are ``paged_llm.Decoder``; its pipeline has the phases of MLC's.
"""
