// Bounding boxes in a complete binary tree: node i has children 2i and 2i + 1, the root is node 1,
// leaf k is node leaf_count + k. No pointers, the same layout for the primitives of a scene (one to a
// leaf, sorted along a space-filling curve) and for the triangles of a mesh (MESH_LEAF to a leaf).
#pragma once
#include "shapes.h"

#define TREE_STACK 24

DEVICE void node_of_primitive(const Primitive& p, Node& node) {
  for (int k = 0; k < 3; k++) {
    float reach = 0;
    for (int j = 0; j < 3; j++) reach += fabsf(p.inverse[3 * j + k]) * p.half[j] * p.half[j];
    node.low[k] = p.center[k] - reach - 1e-4f;
    node.high[k] = p.center[k] + reach + 1e-4f;
  }
}

DEVICE u32 spread_bits(u32 v) {  // 8 bits to every third bit
  v = (v | (v << 8)) & 0x0000F00Fu;
  v = (v | (v << 4)) & 0x000C30C3u;
  return (v | (v << 2)) & 0x00249249u;
}

// Large primitives (ground slabs, walls) sort into their own subtree, so that they do not swell all others.
DEVICE u32 sort_key(const Primitive& p, Vec3 center, float extent) {
  u32 size = p.radius > 0.3f * extent ? 0u : p.radius > 0.08f * extent ? 1u : 2u;
  u32 code = 0;
  const float c[3] = {p.center[0] - center.x, p.center[1] - center.y, p.center[2] - center.z};
  for (int k = 0; k < 3; k++) {
    float unit = saturate(0.5f + 0.5f * c[k] / extent);
    code |= spread_bits((u32)(unit * 255.f)) << k;
  }
  return (size << 24) | code;
}

DEVICE void merge_nodes(const Node& a, const Node& b, Node& out) {
  for (int k = 0; k < 3; k++) {
    out.low[k] = fminf(a.low[k], b.low[k]);
    out.high[k] = fmaxf(a.high[k], b.high[k]);
  }
}

// Builds the tree of one scene with `lanes` threads of a block (one on the CPU).
// `keys` and `order` hold MAX_PRIMITIVES entries, `nodes` twice as many.
DEVICE_CALL void build_tree(const Primitive* primitives, Scene& scene, u32* keys, int* order, Node* nodes,
                            int lane, int lanes) {
  int count = scene.primitive_count, leaves = 1;
  while (leaves < count) leaves *= 2;
  Vec3 eye = vec(scene.eye);
  float extent = 1;
  for (int i = 0; i < count; i++)
    extent = fmaxf(extent, fminf(length(vec(primitives[i].center) - eye) * 0.5f, 200.f));
  for (int i = lane; i < leaves; i += lanes) {
    order[i] = i < count ? i : -1;
    keys[i] = i < count ? sort_key(primitives[i], eye, extent) : 0xFFFFFFFFu;
  }
  BARRIER();
  for (int size = 2; size <= leaves; size *= 2) {  // bitonic sort
    for (int step = size / 2; step > 0; step /= 2) {
      for (int i = lane; i < leaves; i += lanes) {
        int j = i ^ step;
        if (j <= i || (keys[i] > keys[j]) != ((i & size) == 0)) continue;
        u32 key = keys[i];
        int index = order[i];
        keys[i] = keys[j];
        order[i] = order[j];
        keys[j] = key;
        order[j] = index;
      }
      BARRIER();
    }
  }
  for (int i = lane; i < leaves; i += lanes) {
    Node& node = nodes[leaves + i];
    if (order[i] >= 0) node_of_primitive(primitives[order[i]], node);
    else for (int k = 0; k < 3; k++) node.low[k] = 1e30f, node.high[k] = -1e30f;
  }
  BARRIER();
  for (int level = leaves / 2; level > 0; level /= 2) {
    for (int i = level + lane; i < 2 * level; i += lanes) merge_nodes(nodes[2 * i], nodes[2 * i + 1], nodes[i]);
    BARRIER();
  }
  if (lane == 0) scene.leaf_count = leaves;
  BARRIER();
}

// Entry distance of a ray into a node, or 1e30 when it misses or enters beyond `limit`.
DEVICE float node_entry(const Node& n, Vec3 o, Vec3 inverse, float limit) {
  float x0 = (n.low[0] - o.x) * inverse.x, x1 = (n.high[0] - o.x) * inverse.x;
  float y0 = (n.low[1] - o.y) * inverse.y, y1 = (n.high[1] - o.y) * inverse.y;
  float z0 = (n.low[2] - o.z) * inverse.z, z1 = (n.high[2] - o.z) * inverse.z;
  float enter = fmaxf(fmaxf(fminf(x0, x1), fminf(y0, y1)), fminf(z0, z1));
  float leave = fminf(fminf(fmaxf(x0, x1), fmaxf(y0, y1)), fmaxf(z0, z1));
  return leave < fmaxf(enter, 0.f) || enter > limit || n.low[0] > n.high[0] ? 1e30f : enter;
}

// A node put off, and where the ray enters it.
struct Todo {
  int node;
  float entry;
};

// The nearer child that the ray meets before `limit`, or 0; the other child is put off.
DEVICE int descend(const Node* nodes, int i, Vec3 o, Vec3 inverse, float limit, Todo* stack, int& depth) {
  float left = node_entry(nodes[2 * i], o, inverse, limit), right = node_entry(nodes[2 * i + 1], o, inverse, limit);
  int near = left <= right ? 2 * i : 2 * i + 1;
  float first = fminf(left, right), second = fmaxf(left, right);
  if (second < 1e29f) {
    stack[depth].node = near ^ 1;
    stack[depth++].entry = second;
  }
  return first < 1e29f ? near : 0;
}

struct MeshHit {
  float t, u, v;
  int triangle;
};

// Source: Moeller and Trumbore, Fast, Minimum Storage Ray-Triangle Intersection, 1997.
DEVICE void intersect_triangle(const Triangle& tri, int index, Vec3 o, Vec3 d, float least, MeshHit& best) {
  Vec3 e1 = vec(tri.edge1), e2 = vec(tri.edge2), p = cross(d, e2);
  float det = dot(e1, p);
  if (fabsf(det) < 1e-14f) return;
  float inverse = 1 / det;
  Vec3 s = o - vec(tri.corner);
  float u = dot(s, p) * inverse;
  if (u < 0 || u > 1) return;
  Vec3 q = cross(s, e1);
  float v = dot(d, q) * inverse, t = dot(e2, q) * inverse;
  if (v < 0 || u + v > 1 || t <= least || t >= best.t) return;
  best.t = t;
  best.u = u;
  best.v = v;
  best.triangle = index;
}

// The first triangle of a mesh along a local ray, beyond `least` and before best.t.
DEVICE_CALL void trace_mesh(const Library& library, int mesh, Vec3 o, Vec3 d, float least, MeshHit& best) {
  const MeshInfo& info = library.meshes[mesh];
  const Node* nodes = library.mesh_nodes + info.first_node;
  Vec3 inverse = vec(reciprocal(d.x), reciprocal(d.y), reciprocal(d.z));
  Todo stack[TREE_STACK];
  int depth = 0, leaves = info.leaf_count, i = 1;
  while (true) {
    if (i >= leaves) {
      int first = info.first_triangle + (i - leaves) * MESH_LEAF;
      for (int k = 0; k < MESH_LEAF; k++)
        intersect_triangle(library.triangles[first + k], first + k, o, d, least, best);
      i = 0;
    } else {
      i = descend(nodes, i, o, inverse, best.t, stack, depth);
    }
    while (i == 0 && depth > 0)
      if (stack[--depth].entry < best.t) i = stack[depth].node;
    if (i == 0) return;
  }
}
