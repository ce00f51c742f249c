"""
Between protobuf and the domain's values.

`pb/` is generated from protos/ and committed; `codec` translates. What the application packs into
an `Any` is never opened here.
"""
