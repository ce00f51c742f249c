"""
What the service lets others see of itself: logs and traces.

Here belongs how they are set up and written out. What is worth saying is said where it happens,
through the standard library's `logging`: a sentence, and its facts in `extra`. Never payloads.
"""
