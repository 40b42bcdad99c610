/* Depth-first block: in each stripe kernel i computes the rows from its number in the stripe's line
 * to the one below it. */
static const ptrdiff_t rows_0[6][5] = {
  {0, 0, 0, 0, 0},
  {2, 2, 1, 1, 1},
  {3, 3, 2, 2, 2},
  {4, 4, 3, 3, 3},
  {5, 5, 4, 4, 4},
  {5, 5, 5, 5, 5},
};

int net_run(const net_inputs *in, const net_outputs *out, void *arena) {
  if (arena == NULL || ((uintptr_t)arena & 63) != 0) return 1;
  if (in->x == NULL || out->y == NULL) return 2;
  const unsigned char *const w = net_weights;
  unsigned char *const a = (unsigned char *)arena;
  /* Depth-first: 5 kernels in 5 stripes. */
  for (int stripe = 0; stripe < 5; ++stripe) {
    const ptrdiff_t *const row = rows_0[stripe], *const end = rows_0[stripe + 1];
    /* conv0 */
    net_conv_3x3_3_8_rows((const void *)in->x, (const void *)w, (const void *)(w + ...), (void *)a, row[0], end[0]);
    /* conv1 */
    net_conv_pointwise_8_32_rows((const void *)a, (const void *)(w + ...), (const void *)(w + ...), (void *)(a + 192),
                                 row[1], end[1]);
    /* conv2 */
    net_depthwise_3x3_32_rows((const void *)(a + 192), (const void *)(w + ...), (const void *)(w + ...),
                              (void *)(a + 1344), row[2], end[2]);
    /* conv3 */
    net_conv_pointwise_32_8_rows((const void *)(a + 1344), (const void *)(w + ...), (const void *)(w + ...),
                                 (const void *)a, (void *)(a + 1728), row[3], end[3]);
    net_elementwise_max_rows((const void *)(a + 1728), (void *)out->y, row[4], end[4]);
  }
  return 0;
}

