// Rays against unit shapes. A convex shape answers with the interval of the ray inside it.
#pragma once
#include "scene.h"

struct Interval {
  float enter, leave;
};

DEVICE Vec3 rotate_to_local(const Primitive& p, Vec3 d) {
  const float* m = p.inverse;
  return vec(m[0] * d.x + m[1] * d.y + m[2] * d.z, m[3] * d.x + m[4] * d.y + m[5] * d.z,
             m[6] * d.x + m[7] * d.y + m[8] * d.z);
}
DEVICE Vec3 to_local(const Primitive& p, Vec3 point) { return rotate_to_local(p, point - vec(p.center)); }
// Normals transform with the transpose of the inverse.
DEVICE Vec3 normal_to_world(const Primitive& p, Vec3 n) {
  const float* m = p.inverse;
  return normalize(vec(m[0] * n.x + m[3] * n.y + m[6] * n.z, m[1] * n.x + m[4] * n.y + m[7] * n.z,
                       m[2] * n.x + m[5] * n.y + m[8] * n.z));
}

// One pair of parallel planes at -1 and +1.
DEVICE Interval slab(float o, float d) {
  float inverse = reciprocal(d);
  float a = (-1 - o) * inverse, b = (1 - o) * inverse;
  Interval i = {fminf(a, b), fmaxf(a, b)};
  return i;
}

DEVICE bool unit_box(Vec3 o, Vec3 d, Interval& hit) {
  Interval x = slab(o.x, d.x), y = slab(o.y, d.y), z = slab(o.z, d.z);
  hit.enter = fmaxf(fmaxf(x.enter, y.enter), z.enter);
  hit.leave = fminf(fminf(x.leave, y.leave), z.leave);
  return hit.leave >= hit.enter;
}

// Roots of A t^2 + 2 B t + C.
DEVICE bool quadratic(float A, float B, float C, Interval& hit) {
  float root = B * B - A * C;
  if (root < 0 || fabsf(A) < 1e-12f) return false;
  root = sqrtf(root);
  hit.enter = (-B - root) / A;
  hit.leave = (-B + root) / A;
  return true;
}

DEVICE bool unit_cylinder(Vec3 o, Vec3 d, Interval& hit) {
  Interval caps = slab(o.y, d.y), side;
  float A = d.x * d.x + d.z * d.z + 1e-12f;
  if (!quadratic(A, o.x * d.x + o.z * d.z, o.x * o.x + o.z * o.z - 1, side)) return false;
  hit.enter = fmaxf(caps.enter, side.enter);
  hit.leave = fminf(caps.leave, side.leave);
  return hit.leave >= hit.enter;
}

DEVICE bool unit_cone(Vec3 o, Vec3 d, Interval& hit) {
  Interval caps = slab(o.y, d.y), side;
  float k = 0.5f * (1 - o.y), step = -0.5f * d.y;
  float A = d.x * d.x + d.z * d.z - step * step;
  if (!quadratic(A, o.x * d.x + o.z * d.z - k * step, o.x * o.x + o.z * o.z - k * k, side)) return false;
  hit = caps;
  if (A > 0) {
    hit.enter = fmaxf(hit.enter, side.enter);
    hit.leave = fminf(hit.leave, side.leave);
  } else if (d.y > 0) {  // the ray stays inside the double cone outside of its two roots
    hit.leave = fminf(hit.leave, fminf(side.enter, side.leave));
  } else {
    hit.enter = fmaxf(hit.enter, fmaxf(side.enter, side.leave));
  }
  return hit.leave >= hit.enter;
}

DEVICE bool unit_prism(Vec3 o, Vec3 d, Interval& hit) {
  Interval y = slab(o.y, d.y), z = slab(o.z, d.z);
  hit.enter = fmaxf(y.enter, z.enter);
  hit.leave = fminf(y.leave, z.leave);
  for (int k = 0; k < 2; k++) {
    float side = k ? -1.f : 1.f;
    float offset = side * o.x + 0.5f * (o.y + 1) - 1, rate = side * d.x + 0.5f * d.y;
    if (fabsf(rate) < 1e-9f) {
      if (offset > 0) return false;
      continue;
    }
    float t = -offset / rate;
    if (rate < 0) hit.enter = fmaxf(hit.enter, t);
    else hit.leave = fminf(hit.leave, t);
  }
  return hit.leave >= hit.enter;
}

DEVICE bool unit_quad(Vec3 o, Vec3 d, Interval& hit) {
  float t = -o.z * reciprocal(d.z);
  hit.enter = hit.leave = t;
  return fabsf(o.x + d.x * t) <= 1 && fabsf(o.y + d.y * t) <= 1;
}

DEVICE bool intersect_shape(int shape, Vec3 o, Vec3 d, Interval& hit) {
  switch (shape) {
    case ELLIPSOID: return quadratic(dot(d, d), dot(o, d), dot(o, o) - 1, hit);
    case CYLINDER: return unit_cylinder(o, d, hit);
    case CONE: return unit_cone(o, d, hit);
    case PRISM: return unit_prism(o, d, hit);
    case QUAD: return unit_quad(o, d, hit);
    default: return unit_box(o, d, hit);
  }
}

DEVICE Vec3 box_normal(Vec3 p) {
  float x = fabsf(p.x), y = fabsf(p.y), z = fabsf(p.z);
  if (x > y && x > z) return vec(p.x > 0 ? 1.f : -1.f, 0, 0);
  if (y > z) return vec(0, p.y > 0 ? 1.f : -1.f, 0);
  return vec(0, 0, p.z > 0 ? 1.f : -1.f);
}

DEVICE Vec3 prism_normal(Vec3 p) {
  float ends = fabsf(p.z) - 1, base = -1 - p.y;
  float right = p.x + 0.5f * (p.y + 1) - 1, left = -p.x + 0.5f * (p.y + 1) - 1;
  float most = fmaxf(fmaxf(ends, base), fmaxf(right, left));
  if (most == ends) return vec(0, 0, p.z > 0 ? 1.f : -1.f);
  if (most == base) return vec(0, -1, 0);
  return vec(most == right ? 1.f : -1.f, 0.5f, 0);
}

// The outward normal of a unit shape at a point on it, in local coordinates.
DEVICE Vec3 shape_normal(int shape, Vec3 p) {
  float r = sqrtf(p.x * p.x + p.z * p.z);
  switch (shape) {
    case ELLIPSOID: return p;
    case QUAD: return vec(0, 0, 1);
    case CYLINDER:
      if (fabsf(p.y) > r && fabsf(p.y) > 0.99f) return vec(0, p.y > 0 ? 1.f : -1.f, 0);
      return vec(p.x, 0, p.z);
    case CONE: return p.y < -0.998f ? vec(0, -1, 0) : vec(p.x / (r + 1e-6f), 0.5f, p.z / (r + 1e-6f));
    case PRISM: return prism_normal(p);
    default: return box_normal(p);
  }
}

// Roughly the distance to a shape, metres, negative inside: for contact shadows and clearances.
DEVICE float shape_distance(const Primitive& p, Vec3 point) {
  Vec3 l = to_local(p, point);
  const float* h = p.half;
  if (p.shape == ROOM)
    return fminf(fminf((1 - fabsf(l.x)) * h[0], (1 - fabsf(l.y)) * h[1]), (1 - fabsf(l.z)) * h[2]);
  if (p.shape == ELLIPSOID || p.shape == CONE) return (length(l) - 1) * fminf(h[0], fminf(h[1], h[2]));
  Vec3 q = vec((fabsf(l.x) - 1) * h[0], (fabsf(l.y) - 1) * h[1], (fabsf(l.z) - 1) * h[2]);
  if (p.shape == QUAD) q.z = fabsf(l.z) * h[2];
  float most = fmaxf(q.x, fmaxf(q.y, q.z));
  return most < 0 ? most : length(vec(fmaxf(q.x, 0.f), fmaxf(q.y, 0.f), fmaxf(q.z, 0.f)));
}

// Whether a cut-out material is open at a local point (leaves, bars, grids).
DEVICE_CALL bool is_open(const Material& m, const Primitive& p, Vec3 local) {
  Vec3 q = vec(local.x * p.half[0], local.y * p.half[1], local.z * p.half[2]) * m.scale;
  if (m.cut == 1) {
    float coarse = noise(q, m.seed + (u32)p.shift);
    return coarse * 0.6f + noise(q * 2.7f, m.seed) * 0.4f < m.cut_threshold;
  }
  if (m.cut == 2) return fraction(q.x) > m.cut_threshold && fraction(q.y * 0.2f) > 0.12f;
  return fraction(q.x) > m.cut_threshold && fraction(q.y) > m.cut_threshold;
}
