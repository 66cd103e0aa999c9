/* An LSTM layer, forwards and back through time, for CPUs with AVX512-BF16.
 *
 * Rows are the frames of a batch, (batch, time); `order` holds, for each item, the frame of each
 * step, so that a reversed direction needs no reversed copy. Gates stand in PyTorch's order: input,
 * forget, cell, output. bf16 numbers are held as uint16_t. hidden is a multiple of 64. */
#include <immintrin.h>
#include <stdint.h>
#include <stdlib.h>

typedef uint16_t bf16;
enum { MOST_ROWS = 6 }; /* items of one block: 6 x 4 sums and the weights fill the 32 registers */
#define INLINE static inline __attribute__((always_inline))

INLINE __m512 load(const bf16 *p) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p)), 16));
}
INLINE void store(bf16 *p, __m512 x) { _mm256_storeu_si256((__m256i *)p, (__m256i)_mm512_cvtneps_pbh(x)); }
INLINE void add(float *p, __m512 x) { _mm512_storeu_ps(p, _mm512_add_ps(_mm512_loadu_ps(p), x)); }
INLINE __m512 constant(float x) { return _mm512_set1_ps(x); }

INLINE __m512 exponential(__m512 x) { /* 2^n e^r with |r| <= ln(2) / 2, relative error 1e-7 */
  x = _mm512_min_ps(_mm512_max_ps(x, constant(-87.f)), constant(87.f));
  __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, constant(1.44269504f)), 8);
  __m512 r = _mm512_fnmadd_ps(n, constant(0.693359375f), x);
  r = _mm512_fnmadd_ps(n, constant(-2.12194440e-4f), r);
  __m512 p = constant(1.f / 720);
  p = _mm512_fmadd_ps(p, r, constant(1.f / 120));
  p = _mm512_fmadd_ps(p, r, constant(1.f / 24));
  p = _mm512_fmadd_ps(p, r, constant(1.f / 6));
  p = _mm512_fmadd_ps(p, r, constant(.5f));
  p = _mm512_fmadd_ps(p, r, constant(1.f));
  p = _mm512_fmadd_ps(p, r, constant(1.f));
  return _mm512_scalef_ps(p, n);
}
INLINE __m512 sigmoid(__m512 x) {
  return _mm512_div_ps(constant(1.f), _mm512_add_ps(constant(1.f), exponential(_mm512_sub_ps(_mm512_setzero_ps(), x))));
}
INLINE __m512 hyperbolic(__m512 x) { /* tanh(x) = 2 sigmoid(2 x) - 1 */
  return _mm512_fmsub_ps(constant(2.f), sigmoid(_mm512_add_ps(x, x)), constant(1.f));
}

/* sums[r][0..3] += inputs[r] (2 x pairs numbers) times weights packed as [pairs][64][2]. */
INLINE void multiply(int rows, int64_t pairs, const bf16 *weights, const bf16 *const *inputs, __m512 (*sums)[4]) {
  for (int64_t k = 0; k < pairs; k++, weights += 128) {
    __m512bh w0 = (__m512bh)_mm512_loadu_si512(weights), w1 = (__m512bh)_mm512_loadu_si512(weights + 32);
    __m512bh w2 = (__m512bh)_mm512_loadu_si512(weights + 64), w3 = (__m512bh)_mm512_loadu_si512(weights + 96);
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++) {
      __m512bh x = (__m512bh)_mm512_set1_epi32(((const int32_t *)inputs[r])[k]);
      sums[r][0] = _mm512_dpbf16_ps(sums[r][0], x, w0);
      sums[r][1] = _mm512_dpbf16_ps(sums[r][1], x, w1);
      sums[r][2] = _mm512_dpbf16_ps(sums[r][2], x, w2);
      sums[r][3] = _mm512_dpbf16_ps(sums[r][3], x, w3);
    }
  }
}

typedef struct { /* one step of a block of items */
  const bf16 *recurrent[MOST_ROWS]; /* forwards h of the step before, back the gates of that after */
  const float *before[MOST_ROWS];   /* cells of the step before */
  float *cells[MOST_ROWS];          /* of this step */
  bf16 *gates[MOST_ROWS];           /* in and out */
  bf16 *hidden[MOST_ROWS];          /* forwards out: h; back in: its gradient */
  float *carry[MOST_ROWS];          /* gradient of the cells, from step to step */
  float *bias;                      /* gradient of the biases, of all steps and items of the block */
} Step;

/* Weights packed as [hidden / 16][hidden / 2][gate][16][2]: all gates of 16 units at once. */
INLINE void step_forward(int rows, int64_t size, const bf16 *weights, Step *s) {
  for (int64_t u = 0; u < size; u += 16, weights += 64 * size) {
    __m512 sums[MOST_ROWS][4];
    for (int r = 0; r < rows; r++)
      for (int g = 0; g < 4; g++) sums[r][g] = load(s->gates[r] + g * size + u);
    multiply(rows, size / 2, weights, s->recurrent, sums);
    for (int r = 0; r < rows; r++) {
      __m512 i = sigmoid(sums[r][0]), f = sigmoid(sums[r][1]), g = hyperbolic(sums[r][2]), o = sigmoid(sums[r][3]);
      __m512 c = _mm512_fmadd_ps(f, _mm512_loadu_ps(s->before[r] + u), _mm512_mul_ps(i, g));
      _mm512_storeu_ps(s->cells[r] + u, c);
      store(s->hidden[r] + u, _mm512_mul_ps(o, hyperbolic(c)));
      bf16 *gates = s->gates[r] + u;
      store(gates, i), store(gates + size, f), store(gates + 2 * size, g), store(gates + 3 * size, o);
    }
  }
}

/* Weights packed as [hidden / 64][4 hidden / 2][64][2]: 64 units at once. */
INLINE void step_back(int rows, int64_t size, const bf16 *weights, Step *s) {
  const __m512 one = constant(1.f);
  for (int64_t u = 0; u < size; u += 64, weights += 256 * size) {
    __m512 sums[MOST_ROWS][4];
    for (int r = 0; r < rows; r++)
      for (int q = 0; q < 4; q++) sums[r][q] = load(s->hidden[r] + u + 16 * q);
    multiply(rows, 2 * size, weights, s->recurrent, sums);
    for (int r = 0; r < rows; r++)
      for (int q = 0; q < 4; q++) {
        int64_t v = u + 16 * q;
        bf16 *gates = s->gates[r] + v;
        __m512 dh = sums[r][q], t = hyperbolic(_mm512_loadu_ps(s->cells[r] + v));
        __m512 i = load(gates), f = load(gates + size), g = load(gates + 2 * size), o = load(gates + 3 * size);
        __m512 dc = _mm512_fmadd_ps(_mm512_mul_ps(dh, o), _mm512_fnmadd_ps(t, t, one), _mm512_loadu_ps(s->carry[r] + v));
        __m512 di = _mm512_mul_ps(_mm512_mul_ps(dc, g), _mm512_mul_ps(i, _mm512_sub_ps(one, i)));
        __m512 df = _mm512_mul_ps(_mm512_mul_ps(dc, _mm512_loadu_ps(s->before[r] + v)), _mm512_mul_ps(f, _mm512_sub_ps(one, f)));
        __m512 dg = _mm512_mul_ps(_mm512_mul_ps(dc, i), _mm512_fnmadd_ps(g, g, one));
        __m512 dO = _mm512_mul_ps(_mm512_mul_ps(dh, t), _mm512_mul_ps(o, _mm512_sub_ps(one, o)));
        _mm512_storeu_ps(s->carry[r] + v, _mm512_mul_ps(dc, f));
        store(gates, di), store(gates + size, df), store(gates + 2 * size, dg), store(gates + 3 * size, dO);
        float *bias = s->bias + v;
        add(bias, di), add(bias + size, df), add(bias + 2 * size, dg), add(bias + 3 * size, dO);
      }
  }
}

/* A constant count of rows for each case, so that the sums stay in registers. */
#define STEP(function, rows, ...)                \
  switch (rows) {                                \
    case 1: function(1, __VA_ARGS__); break;     \
    case 2: function(2, __VA_ARGS__); break;     \
    case 3: function(3, __VA_ARGS__); break;     \
    case 4: function(4, __VA_ARGS__); break;     \
    case 5: function(5, __VA_ARGS__); break;     \
    default: function(6, __VA_ARGS__); break;    \
  }

/* Both functions: order (directions, batch, time); weights of the directions one after the other;
 * gates (batch, time, directions, 4 x size); hidden (batch, time, directions, size); cells
 * (directions, batch, time, size); first_hidden (forwards alone) and first_cells: before the first
 * step, (directions, batch, size). Blocks of items and directions are shared out among threads, those
 * of PyTorch where both use the same OpenMP library: others would be kept waiting by its spinning. */

/* gates: the inputs' part in, activations out. hidden, cells: out. */
void lstm_forward(int64_t threads, int64_t directions, int64_t batch, int64_t time, int64_t size, const int64_t *order,
                  const bf16 *weights, bf16 *gates, bf16 *hidden, float *cells, bf16 *first_hidden, float *first_cells) {
  const int64_t blocks = (batch + MOST_ROWS - 1) / MOST_ROWS;
#pragma omp parallel for num_threads(threads) schedule(dynamic)
  for (int64_t job = 0; job < directions * blocks; job++) {
    const int64_t d = job / blocks, first = batch * (job % blocks) / blocks;
    const int64_t rows = batch * (job % blocks + 1) / blocks - first;
    Step s;
    for (int r = 0; r < rows; r++) {
      const int64_t item = d * batch + first + r;
      s.hidden[r] = first_hidden + item * size, s.cells[r] = first_cells + item * size;
    }
    for (int64_t step = 0; step < time; step++) {
      for (int r = 0; r < rows; r++) {
        const int64_t item = (d * batch + first + r) * time, frame = order[item + step];
        const int64_t row = ((first + r) * time + frame) * directions + d;
        s.recurrent[r] = s.hidden[r], s.before[r] = s.cells[r];
        s.gates[r] = gates + row * 4 * size, s.hidden[r] = hidden + row * size, s.cells[r] = cells + (item + frame) * size;
      }
      STEP(step_forward, rows, size, weights + d * 4 * size * size, &s);
    }
  }
}

/* gates: activations in, gradients of what they were made from out. hidden: the gradient of h, in.
 * biases (directions, batch, 4 x size): zeros in; out, each block's gradient in the row of its first item. */
void lstm_backward(int64_t threads, int64_t directions, int64_t batch, int64_t time, int64_t size, const int64_t *order,
                   const bf16 *weights, bf16 *gates, bf16 *hidden, float *cells, float *first_cells, float *biases) {
  const int64_t blocks = (batch + MOST_ROWS - 1) / MOST_ROWS;
#pragma omp parallel for num_threads(threads) schedule(dynamic)
  for (int64_t job = 0; job < directions * blocks; job++) {
    const int64_t d = job / blocks, first = batch * (job % blocks) / blocks;
    const int64_t rows = batch * (job % blocks + 1) / blocks - first;
    bf16 *no_gates = calloc(4 * size, sizeof(bf16));
    float *carry = calloc(rows * size, sizeof(float));
    Step s;
    for (int r = 0; r < rows; r++) s.gates[r] = no_gates, s.carry[r] = carry + r * size;
    s.bias = biases + (d * batch + first) * 4 * size;
    for (int64_t step = time - 1; step >= 0; step--) {
      for (int r = 0; r < rows; r++) {
        const int64_t item = (d * batch + first + r) * time, frame = order[item + step];
        const int64_t row = ((first + r) * time + frame) * directions + d;
        s.recurrent[r] = s.gates[r];
        s.gates[r] = gates + row * 4 * size, s.hidden[r] = hidden + row * size, s.cells[r] = cells + (item + frame) * size;
        s.before[r] = step ? cells + (item + order[item + step - 1]) * size : first_cells + (d * batch + first + r) * size;
      }
      STEP(step_back, rows, size, weights + d * 4 * size * size, &s);
    }
    free(no_gates), free(carry);
  }
}
