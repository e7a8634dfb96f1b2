"""A policy on trial on live traffic: in the shadow of the one that decides, or as a canary that decides a share."""
