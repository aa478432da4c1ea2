"""What travels: frames inside the process, validated messages outside it. Imports nothing of ours.

A subscriber needs only `contracts.messages` (pydantic); `contracts.frame` also needs numpy.
"""
