"""Keeps photos for later training (COLLECT_TO), beside the requests and never in their way.

1. `collector` decides which photos are to be kept, and why. It is all that a request waits for.
2. `limits` bounds photos and bytes per day, and photos per client.
3. `awaiting` holds other photos for some minutes: feedback may say that their answer is wrong.
4. `writer` is one thread with a short queue. It makes a small copy without metadata, in a process of its own
   (`ml.model.careful`), and writes it. A second thread drops photos that have waited too long.

What can't be kept is dropped and counted. `ml.model.kept_photos` defines what is written.
"""
