"""Training and evaluation of an EGFormer on a folder data set: engine.py is the loop, commands/ the command line."""
