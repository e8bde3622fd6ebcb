"""
The loop on one machine: KFP's local runner, and small stand-ins for Argo CD and the gateway.

Reads the checkout that it was installed from; never part of an image.
"""
