"""The Ethos-U back end: int8 networks as command streams of Arm's accelerators, by way of TFLite and Vela."""
