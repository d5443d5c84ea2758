// The words of the scene grammar: frames, and shapes placed in them.
#pragma once
#include "materials.h"

// A place to stand: a point on the floor, and which way it faces.
struct Frame {
  float x, y, z, cosine, sine;
};

struct Turn {
  float yaw, pitch, roll;
};

DEVICE Frame frame_at(float x, float y, float z, float yaw) {
  Frame f = {x, y, z, cosf(yaw), sinf(yaw)};
  return f;
}
// A frame relative to another.
DEVICE Frame frame_in(Frame f, float x, float y, float z, float yaw) {
  float c = cosf(yaw), s = sinf(yaw);
  Frame g = {f.x + f.cosine * x + f.sine * z, f.y + y, f.z - f.sine * x + f.cosine * z,
             f.cosine * c - f.sine * s, f.sine * c + f.cosine * s};
  return g;
}

DEVICE void note(Builder& b, Frame f, float height) {
  if (b.interest_count < MAX_INTEREST) b.interest[b.interest_count++] = vec(f.x, f.y + height, f.z);
}

DEVICE_CALL void orient(Primitive& p, Frame f, Turn turn) {
  float cy = cosf(turn.yaw), sy = sinf(turn.yaw), c = f.cosine * cy - f.sine * sy, s = f.sine * cy + f.cosine * sy;
  float cp = cosf(turn.pitch), sp = sinf(turn.pitch), cr = cosf(turn.roll), sr = sinf(turn.roll);
  Vec3 axis[3] = {vec(cr, sr, 0), vec(-sr, cr, 0), vec(0, 0, 1)};
  for (int k = 0; k < 3; k++) {  // roll about z, then pitch about x, then yaw about y
    Vec3 a = axis[k];
    a = vec(a.x, cp * a.y - sp * a.z, sp * a.y + cp * a.z);
    a = vec(c * a.x + s * a.z, a.y, -s * a.x + c * a.z);
    store(p.inverse + 3 * k, a * (1 / p.half[k]));
  }
  float x = p.half[0], y = p.half[1], z = p.half[2];
  p.radius = 1.0005f * (p.shape == ELLIPSOID ? fmaxf(x, fmaxf(y, z))
                        : p.shape == CYLINDER || p.shape == CONE ? sqrtf(fmaxf(x, z) * fmaxf(x, z) + y * y)
                        : sqrtf(x * x + y * y + z * z));
}

// A shape of given half sizes around a centre in the frame. Returns null when the scene is full.
DEVICE_CALL Primitive* add(Builder& b, Frame f, int shape, int mat, Vec3 center, Vec3 half, Turn turn) {
  if (mat == NO_MATERIAL || b.scene->primitive_count >= MAX_PRIMITIVES) return 0;
  Primitive& p = b.primitives[b.scene->primitive_count++];
  p.shape = shape;
  p.material = mat;
  p.mesh = -1;
  p.shift = uniform(b.rng, 0, 100);
  store(p.half, vec(fmaxf(half.x, 1e-3f), fmaxf(half.y, 1e-3f), fmaxf(half.z, 1e-3f)));
  p.center[0] = f.x + f.cosine * center.x + f.sine * center.z;
  p.center[1] = f.y + center.y;
  p.center[2] = f.z - f.sine * center.x + f.cosine * center.z;
  orient(p, f, turn);
  return &p;
}
DEVICE Primitive* add(Builder& b, Frame f, int shape, int mat, Vec3 center, Vec3 half) {
  Turn none = {0, 0, 0};
  return add(b, f, shape, mat, center, half, none);
}
// A box of full sizes standing on base.y.
DEVICE Primitive* box(Builder& b, Frame f, int mat, Vec3 base, Vec3 size) {
  return add(b, f, BOX, mat, base + vec(0, size.y * 0.5f, 0), size * 0.5f);
}
DEVICE Primitive* turned_box(Builder& b, Frame f, int mat, Vec3 base, Vec3 size, float yaw) {
  Turn turn = {yaw, 0, 0};
  return add(b, f, BOX, mat, base + vec(0, size.y * 0.5f, 0), size * 0.5f, turn);
}
DEVICE Primitive* cylinder(Builder& b, Frame f, int mat, Vec3 base, float radius, float height) {
  return add(b, f, CYLINDER, mat, base + vec(0, height * 0.5f, 0), vec(radius, height * 0.5f, radius));
}
DEVICE Primitive* ball(Builder& b, Frame f, int mat, Vec3 center, Vec3 half) { return add(b, f, ELLIPSOID, mat, center, half); }

// A round bar between two points of a frame: legs, limbs, cables.
DEVICE_CALL Primitive* rod(Builder& b, Frame f, int mat, Vec3 from, Vec3 to, float radius) {
  Vec3 d = to - from;
  float span = length(d) + 1e-6f;
  Turn turn = {atan2f(d.x, d.z), acosf(clamp(d.y / span, -1.f, 1.f)), 0};
  return add(b, f, CYLINDER, mat, (from + to) * 0.5f, vec(radius, span * 0.5f, radius), turn);
}

DEVICE bool has_mesh(const Builder& b, int group) { return b.library.groups && b.library.groups[2 * group + 1] > 0; }

// A random mesh of a group standing on base.y; `height` in metres, or 0 for its natural size. Returns false if none.
DEVICE_CALL Primitive* mesh(Builder& b, Frame f, int group, int mat, Vec3 base, float height, Turn turn) {
  if (!has_mesh(b, group)) return 0;
  int index = b.library.groups[2 * group] + pick(b.rng, 0, b.library.groups[2 * group + 1] - 1);
  const MeshInfo& info = b.library.meshes[index];
  float scale = height > 0 ? height * 0.5f / info.half[1] : 1.f;
  Vec3 half = vec(info.half) * scale * vec(uniform(b.rng, 0.9f, 1.1f), 1, uniform(b.rng, 0.9f, 1.1f));
  Primitive* p = add(b, f, BOX, mat, base + vec(0, half.y, 0), half, turn);
  if (!p) return 0;
  p->shape = MESH;
  p->mesh = index;
  orient(*p, f, turn);
  return p;
}
DEVICE Primitive* mesh(Builder& b, Frame f, int group, int mat, Vec3 base, float height) {
  Turn turn = {uniform(b.rng, 0, TAU), 0, 0};
  return mesh(b, f, group, mat, base, height, turn);
}
