"""Post-training quantization: from a float model and calibration data to an ONNX model with QuantizeLinear and DequantizeLinear.

    prepare      the model cleaned up by graph passes, as ONNX again
    rest         what stays as it is behind that, such as the suppression of boxes
    points       which values are quantized, and which of them share a scale
    observe      ranges, histograms and means of values over the calibration data, run by compiled code
    ranges       from statistics to a scale and a zero point: min-max, percentile, entropy, mean squared error
    told_apart, headroom   where ranges may end earlier without a loss, and where they end later
    weights      scales of weights, one for each output channel
    equalize, correct, rounding   what makes 8 bits of weights go further
    insert       the QuantizeLinear and DequantizeLinear nodes
    report       the error of every value, and where it comes from
    sensitivity  what each layer's own quantization does to the outputs
    accuracy, costs, mixed   scores, modelled cycles, and which layers leave 8 bits so that scores hold
    driver       all of it in order
    weight_only  4- and 8-bit weights of matrix products with a scale for each block; gram, blocks, gptq, awq are its parts
"""
