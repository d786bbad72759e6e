"""Generated protobuf and gRPC stubs of the package text4seg.v1; made by `make gen`, never edited."""
