"""Data sets, training and evaluation of Text4Seg models; a sibling of services and clients."""
