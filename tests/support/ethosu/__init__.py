"""A simulator of Ethos-U55 and U65: it executes the command stream that Vela made, on the bytes that Vela placed.

    network.py      the operators, constants and memory offsets of a TFLite model that Vela wrote
    stream.py       the words of a command stream as operations with registers
    memory.py       regions, the shared RAM inside, and feature maps in them: layouts, strides, tiles
    weights.py      compressed weights and the records of biases and scales
    scaling.py      fixed-point scaling with the rounding modes of the hardware
    convolution.py  convolutions, depthwise ones, pools
    elementwise.py  arithmetic of two feature maps
    output.py       what happens to every result: zero point, limits, tables
    machine.py      runs all of it

What the registers mean is told by Vela's register definitions (`ethosu.vela.ethos_u55_regs`) and generators; that this reading of
them is right shows in the bytes, which are those of LiteRT's reference kernels.
"""
