"""Decodes photos in processes that can't take more than a stated memory and time.

`sandbox` is the service's side. It has a helper process, `zygote`, which forks a worker process for each
photo, so what decoding holds is free again at once, whatever the decoder did. `messages` has the messages
between the service, the zygote and a worker. Windows has no fork: there is no sandbox there.
"""
