// Vectors, random numbers and noise, for the GPU (nvcc, NVRTC) and the CPU (g++) alike.
//
// Everything in this folder is one program: a grammar that writes a scene (grammar_*.h), and a ray
// tracer that looks at it (shapes.h, tree.h, surface.h, light.h, render.h). Inside, y points UP
// (x right, z forward); render.h turns cameras and answers over to the y-down world of the package.
#pragma once
#ifdef __CUDACC__
#define DEVICE __device__ __forceinline__
#define DEVICE_CALL __device__ __noinline__
#define BARRIER() __syncthreads()
#else
#include <math.h>
#include <stddef.h>
#define DEVICE static inline
#define DEVICE_CALL static
#define BARRIER()
// libm's own are calls, which cost a third of the time.
static inline float quick_max(float a, float b) { return a > b ? a : b; }
static inline float quick_min(float a, float b) { return a < b ? a : b; }
#define fmaxf quick_max
#define fminf quick_min
#endif

typedef unsigned int u32;
typedef unsigned long long u64;

#ifndef INFINITY  // NVRTC has no math.h
#define INFINITY __int_as_float(0x7f800000)
#endif
#define PI 3.14159265f
#define TAU 6.28318531f

struct Vec3 {
  float x, y, z;
};

DEVICE Vec3 vec(float x, float y, float z) {
  Vec3 v;
  v.x = x;
  v.y = y;
  v.z = z;
  return v;
}
DEVICE Vec3 vec(const float* a) { return vec(a[0], a[1], a[2]); }
DEVICE Vec3 gray(float a) { return vec(a, a, a); }
DEVICE Vec3 operator+(Vec3 a, Vec3 b) { return vec(a.x + b.x, a.y + b.y, a.z + b.z); }
DEVICE Vec3 operator-(Vec3 a, Vec3 b) { return vec(a.x - b.x, a.y - b.y, a.z - b.z); }
DEVICE Vec3 operator*(Vec3 a, Vec3 b) { return vec(a.x * b.x, a.y * b.y, a.z * b.z); }
DEVICE Vec3 operator*(Vec3 a, float b) { return vec(a.x * b, a.y * b, a.z * b); }
DEVICE float dot(Vec3 a, Vec3 b) { return a.x * b.x + a.y * b.y + a.z * b.z; }
DEVICE float length(Vec3 a) { return sqrtf(dot(a, a)); }
DEVICE Vec3 cross(Vec3 a, Vec3 b) {
  return vec(a.y * b.z - a.z * b.y, a.z * b.x - a.x * b.z, a.x * b.y - a.y * b.x);
}
DEVICE Vec3 normalize(Vec3 a) { return a * (1.f / sqrtf(dot(a, a) + 1e-20f)); }
DEVICE float mix(float a, float b, float t) { return a + (b - a) * t; }
DEVICE Vec3 mix(Vec3 a, Vec3 b, float t) { return a * (1 - t) + b * t; }
DEVICE float clamp(float x, float low, float high) { return fminf(fmaxf(x, low), high); }
DEVICE float saturate(float x) { return clamp(x, 0.f, 1.f); }
DEVICE float fraction(float x) { return x - floorf(x); }
DEVICE float smooth(float a, float b, float x) {
  float t = saturate((x - a) / (b - a));
  return t * t * (3 - 2 * t);
}
DEVICE float reciprocal(float x) { return 1.f / (fabsf(x) < 1e-9f ? 1e-9f : x); }
DEVICE void store(float* a, Vec3 v) {
  a[0] = v.x;
  a[1] = v.y;
  a[2] = v.z;
}

// PCG hash. Source: Jarzynski and Olano, Hash Functions for GPU Rendering, JCGT 9(3), 2020.
DEVICE u32 hash(u32 v) {
  u32 s = v * 747796405u + 2891336453u;
  u32 w = ((s >> ((s >> 28) + 4u)) ^ s) * 277803737u;
  return (w >> 22) ^ w;
}

struct Rng {
  u32 state;
};

DEVICE float uniform(Rng& r) {
  r.state = r.state * 1664525u + 1013904223u;
  return (hash(r.state) >> 8) * (1.f / 16777216.f);
}
DEVICE float uniform(Rng& r, float a, float b) { return a + (b - a) * uniform(r); }
DEVICE float log_uniform(Rng& r, float a, float b) { return a * expf(uniform(r) * logf(b / a)); }
DEVICE bool chance(Rng& r, float p) { return uniform(r) < p; }
// An integer in a..b, both included.
DEVICE int pick(Rng& r, int a, int b) { return a + (int)(uniform(r) * (b - a + 1) * 0.99999f); }
// Nearly normal, mean 0, deviation 1, at most 3.5 in size.
DEVICE float normal(Rng& r) {
  return (uniform(r) + uniform(r) + uniform(r) + uniform(r) - 2.f) * 1.73f;
}
DEVICE float sign(Rng& r) { return uniform(r) < 0.5f ? -1.f : 1.f; }

DEVICE float lattice(int x, int y, u32 s) {
  return (hash((u32)x * 73856093u ^ (u32)y * 19349663u ^ s) >> 8) * (1.f / 16777216.f);
}
DEVICE float lattice(int x, int y, int z, u32 s) {
  return (hash((u32)x * 73856093u ^ (u32)y * 19349663u ^ (u32)z * 83492791u ^ s) >> 8) *
         (1.f / 16777216.f);
}

DEVICE float noise(float x, float y, u32 s) {
  float fx = floorf(x), fy = floorf(y);
  int i = (int)fx, j = (int)fy;
  x -= fx;
  y -= fy;
  x = x * x * (3 - 2 * x);
  y = y * y * (3 - 2 * y);
  return mix(mix(lattice(i, j, s), lattice(i + 1, j, s), x),
             mix(lattice(i, j + 1, s), lattice(i + 1, j + 1, s), x), y);
}

DEVICE_CALL float noise(Vec3 p, u32 s) {
  Vec3 f = vec(floorf(p.x), floorf(p.y), floorf(p.z));
  int i = (int)f.x, j = (int)f.y, k = (int)f.z;
  p = p - f;
  p = vec(p.x * p.x * (3 - 2 * p.x), p.y * p.y * (3 - 2 * p.y), p.z * p.z * (3 - 2 * p.z));
  float near = mix(mix(lattice(i, j, k, s), lattice(i + 1, j, k, s), p.x),
                   mix(lattice(i, j + 1, k, s), lattice(i + 1, j + 1, k, s), p.x), p.y);
  float far = mix(mix(lattice(i, j, k + 1, s), lattice(i + 1, j, k + 1, s), p.x),
                  mix(lattice(i, j + 1, k + 1, s), lattice(i + 1, j + 1, k + 1, s), p.x), p.y);
  return mix(near, far, p.z);
}

// Fractal noise in [0, 1]; octaves finer than the pixel's footprint fade to their mean.
DEVICE_CALL float fractal(Vec3 p, int octaves, u32 s, float footprint) {
  float amplitude = 0.5f, value = 0, norm = 0;
  for (int i = 0; i < octaves; i++) {
    float kept = amplitude * (1 - smooth(0.3f, 1.0f, footprint));
    value += kept * noise(p, s + i * 77u) + (amplitude - kept) * 0.5f;
    norm += amplitude;
    amplitude *= 0.55f;
    footprint *= 2;
    p = vec(p.x * 2.03f + 3.1f, p.y * 2.03f + 1.7f, p.z * 2.03f - 5.3f);
  }
  return value / norm;
}

DEVICE_CALL float fractal(float x, float y, int octaves, u32 s) {
  float amplitude = 0.5f, value = 0, norm = 0;
  for (int i = 0; i < octaves; i++) {
    value += amplitude * noise(x, y, s + i * 77u);
    norm += amplitude;
    amplitude *= 0.5f;
    float t = x * 1.6f - y * 1.2f + 3.7f;
    y = x * 1.2f + y * 1.6f - 1.3f;
    x = t;
  }
  return value / norm;
}
