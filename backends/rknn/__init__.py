"""The RKNN back end: networks for the NPUs of Rockchip's chips, by RKNN-Toolkit2."""
