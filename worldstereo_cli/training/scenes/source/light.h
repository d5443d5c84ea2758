// Finding what a ray meets, and how much light comes back along it.
#pragma once
#include "surface.h"

#define NOTHING -1
#define GROUND -2
#define WATER -3

struct Hit {
  float t;
  int id;  // a primitive, or one of the three above
  MeshHit mesh;
};

// Steps along the ray by a share of the height above ground, then bisects. The least step grows with the
// distance, so that rays along the ground get to the mountains and do not end as sky before them.
DEVICE_CALL bool trace_terrain(const Scene& s, Vec3 o, Vec3 d, float limit, int steps, int octaves, float& t) {
  float growth = 3.6f / steps, x = 0.02f, before = 0, top = s.hill + s.mountain * 1.6f + 1, far = fminf(limit, 1500.f);
  if (s.mountain <= 0) top = s.hill + 0.01f;
  if (o.y > top) {  // nothing is met above the highest hill
    if (d.y >= 0) return false;
    before = x = (top - o.y) / d.y;
  }
  for (int i = 0; i < steps; i++) {
    Vec3 p = o + d * x;
    if (x > far || (d.y > 0 && p.y > top)) return false;
    float above = p.y - terrain_height(s, p.x, p.z, octaves);
    if (above < 0) {
      float low = before, high = x;
      for (int k = 0; k < 7; k++) {
        float middle = 0.5f * (low + high);
        Vec3 q = o + d * middle;
        if (q.y < terrain_height(s, q.x, q.z, octaves)) high = middle;
        else low = middle;
      }
      t = high;
      return high < limit;
    }
    before = x;
    x += fmaxf(0.5f * above, growth * x + 0.02f);
  }
  t = x;
  return d.y < -0.02f && x < limit;
}

DEVICE bool visible_at(const World& w, const Primitive& p, Vec3 o, Vec3 d, float t) {
  const Material& m = w.materials[p.material];
  return !m.cut || !is_open(m, p, to_local(p, o + d * t));
}

// The first point of one primitive between `least` and hit.t.
DEVICE bool trace_primitive(const World& w, int id, Vec3 o, Vec3 d, float least, Hit& hit) {
  const Primitive& p = w.primitives[id];
  Vec3 toward = o - vec(p.center);
  float b = dot(toward, d), c = dot(toward, toward) - p.radius * p.radius;
  if ((c > 0 && b > 0) || b * b < c) return false;
  Vec3 local_o = rotate_to_local(p, toward), local_d = rotate_to_local(p, d);
  Interval span;
  if (p.shape == MESH) {
    if (!unit_box(local_o, local_d, span) || span.leave < least || span.enter > hit.t) return false;
    MeshHit best = {hit.t, 0, 0, -1};
    trace_mesh(w.library, p.mesh, local_o, local_d, least, best);
    if (best.triangle < 0) return false;
    hit.t = best.t;
    hit.id = id;
    hit.mesh = best;
    return true;
  }
  if (!intersect_shape(p.shape, local_o, local_d, span)) return false;
  bool cut = w.materials[p.material].cut;
  bool use_enter = p.shape != ROOM && span.enter > least && span.enter < hit.t && visible_at(w, p, o, d, span.enter);
  bool may_leave = p.shape == ROOM || ((cut || span.enter <= least) && p.shape != QUAD);
  bool use_leave = !use_enter && may_leave && span.leave > least && span.leave < hit.t &&
                   (p.shape == ROOM || visible_at(w, p, o, d, span.leave));
  if (!use_enter && !use_leave) return false;
  hit.t = use_enter ? span.enter : span.leave;
  hit.id = id;
  return true;
}

DEVICE_CALL Hit trace(const World& w, Vec3 o, Vec3 d, float limit, bool coarse) {
  Hit hit = {limit, NOTHING, {0, 0, 0, -1}};
  const Scene& s = *w.scene;
  Vec3 inverse = vec(reciprocal(d.x), reciprocal(d.y), reciprocal(d.z));
  Todo stack[TREE_STACK];
  int depth = 0, i = 1;
  while (i > 0) {
    if (i >= s.leaf_count) {
      int id = w.order[i - s.leaf_count];
      if (id >= 0) trace_primitive(w, id, o, d, 1e-3f, hit);
      i = 0;
    } else {
      i = descend(w.nodes, i, o, inverse, hit.t, stack, depth);
    }
    while (i == 0 && depth > 0)
      if (stack[--depth].entry < hit.t) i = stack[depth].node;
  }
  float t;
  if (s.ground == 1 && d.y < -1e-5f) {
    t = -o.y / d.y;
    if (t > 1e-3f && t < hit.t) hit.t = t, hit.id = GROUND;
  } else if (s.ground == 2) {
    if (trace_terrain(s, o, d, hit.t, coarse ? 40 : 240, coarse ? 3 : TERRAIN_OCTAVES, t)) hit.t = t, hit.id = GROUND;
    t = d.y < -1e-5f ? (s.water - o.y) / d.y : -1;
    if (s.water > -1e5f && t > 1e-3f && t < hit.t) hit.t = t, hit.id = WATER;
  }
  return hit;
}

// Whether anything stands between a point and a light. Lamps and the room's own shell cast no shadow.
DEVICE_CALL bool shadowed(const World& w, Vec3 o, Vec3 d, float limit) {
  const Scene& s = *w.scene;
  Vec3 inverse = vec(reciprocal(d.x), reciprocal(d.y), reciprocal(d.z));
  int stack[TREE_STACK], depth = 0;
  stack[depth++] = 1;
  Hit hit = {limit, NOTHING, {0, 0, 0, -1}};
  while (depth > 0) {
    int i = stack[--depth];
    if (node_entry(w.nodes[i], o, inverse, limit) > 1e29f) continue;
    if (i < s.leaf_count) {
      stack[depth++] = 2 * i;
      stack[depth++] = 2 * i + 1;
      continue;
    }
    int id = w.order[i - s.leaf_count];
    if (id < 0 || w.primitives[id].shape == ROOM) continue;
    const Material& m = w.materials[w.primitives[id].material];
    if (m.emission > 0 || m.glass > 0) continue;
    if (trace_primitive(w, id, o, d, 1e-3f, hit)) return true;
  }
  float t;
  return s.ground == 2 && d.y < 0.7f && trace_terrain(s, o + d * 0.3f, d, fminf(limit, 200.f), 16, 3, t);
}

// Inside a room the sun comes through its windows only.
DEVICE_CALL bool sun_through_window(const World& w, Vec3 o, Vec3 d) {
  const Scene& s = *w.scene;
  for (int i = 0; i < s.window_count; i++) {
    const Window& g = s.window[i];
    float t = -1;
    if (g.half[0] <= 0) t = (g.center[0] - o.x) * reciprocal(d.x);
    else t = (g.center[2] - o.z) * reciprocal(d.z);
    Vec3 p = o + d * t - vec(g.center);
    bool inside = fabsf(p.y) < g.half[1] && fabsf(p.x) < g.half[0] + 0.01f && fabsf(p.z) < g.half[2] + 0.01f;
    bool bar = fabsf(p.x + p.z) < 0.025f || fabsf(p.y) < 0.02f;
    if (t > 0 && inside && !bar) return true;
  }
  return false;
}

// Panoramas light the scene from all sides; turned about the vertical by the scene's own angle.
DEVICE Vec3 turn_sky(const Scene& s, Vec3 d) {
  float c = cosf(s.sky_turn), n = sinf(s.sky_turn);
  return vec(c * d.x + n * d.z, d.y, c * d.z - n * d.x);
}

// Irradiance of a panorama on a surface, mean about 1. See _pack_sky in library.py.
DEVICE_CALL Vec3 sky_irradiance(const World& w, Vec3 n) {
  const float* h = w.library.skies + (size_t)w.scene->sky_map * SKY_WORDS;
  Vec3 d = turn_sky(*w.scene, n);
  const float basis[9] = {.282095f, .488603f * d.y, .488603f * d.z, .488603f * d.x, 1.092548f * d.x * d.y, 1.092548f * d.y * d.z,
                          .315392f * (3 * d.z * d.z - 1), 1.092548f * d.x * d.z, .546274f * (d.x * d.x - d.y * d.y)};
  Vec3 sum = gray(0);
  for (int k = 0; k < 9; k++) sum = sum + vec(h + 3 * k) * basis[k];
  return vec(clamp(sum.x, .1f, 3.f), clamp(sum.y, .1f, 3.f), clamp(sum.z, .1f, 3.f));
}

DEVICE_CALL Vec3 sky_map_color(const World& w, Vec3 d) {
  const float* map = w.library.skies + (size_t)w.scene->sky_map * SKY_WORDS + SKY_HARMONICS;
  d = turn_sky(*w.scene, d);
  float u = fraction(atan2f(d.x, d.z) / TAU) * SKY_WIDTH - 0.5f;
  float v = clamp(acosf(clamp(d.y, -1.f, 1.f)) / PI * SKY_HEIGHT - 0.5f, 0.f, SKY_HEIGHT - 1.001f);
  int x = (int)floorf(u), y = (int)v;
  u -= x;
  v -= y;
  const float *row = map + y * SKY_WIDTH * 3, *next = row + SKY_WIDTH * 3;
  int x0 = (x + SKY_WIDTH) % SKY_WIDTH * 3, x1 = (x + 1) % SKY_WIDTH * 3;
  return mix(mix(vec(row + x0), vec(row + x1), u), mix(vec(next + x0), vec(next + x1), u), v);
}

// Heaped clouds: bright billows with grey undersides and outlines as firm as a ridge's.
DEVICE_CALL Vec3 heaped_clouds(const Scene& s, Vec3 d, Vec3 clear) {
  float k = 2.4f * s.cloud_scale;
  Vec3 p = vec(d.x * k, d.y * k * 1.8f, d.z * k), above = p + vec(s.sun[0] * .1f, .14f, s.sun[2] * .1f);
  float n = fractal(p, 6, s.seed + 57u, 0), higher = fractal(above, 4, s.seed + 57u, 0);
  float cover = smooth(0.f, .09f, n - 1 + s.heap), lit = saturate(.55f + 3.5f * (n - higher));
  Vec3 billow = mix(vec(.4f, .43f, .49f), gray(1.1f), lit) * (s.horizon[1] * .6f + .5f);
  return mix(clear, billow, cover);
}

DEVICE_CALL Vec3 sky_color(const World& w, Vec3 d) {
  const Scene& s = *w.scene;
  Vec3 horizon = vec(s.horizon), color = mix(horizon, vec(s.zenith), sqrtf(fmaxf(d.y, 0.f)));
  if (s.cloud > 0 && d.y > 0.01f) {
    float k = s.cloud_scale / (d.y + 0.12f), n = fractal(d.x * k + s.sky_turn, d.z * k, 5, s.seed + 31u);
    float cover = smooth(1 - s.cloud, 1.25f - s.cloud * 0.8f, n) * smooth(0.01f, 0.12f, d.y);
    Vec3 white = mix(vec(.55f, .57f, .6f), gray(1.f), smooth(0.3f, 0.8f, n + 0.1f));
    color = mix(color, white * (horizon.y * 0.6f + 0.5f), cover);
  }
  if (s.heap > 0 && d.y > -.05f) color = heaped_clouds(s, d, color);
  float glow = fmaxf(dot(d, vec(s.sun)), 1e-6f);
  float disk = glow > 0.9995f ? 3.f : 0.f;
  return color + vec(s.sun_color) * (0.25f * powf(glow, 60.f) + 0.08f * powf(glow, 6.f) + disk);
}

// Contact shadow: how much closer the nearest surfaces are than the point's own plane would be.
DEVICE_CALL float contact_light(const World& w, Vec3 p, Vec3 n, int self) {
  const Scene& s = *w.scene;
  const float reach[3] = {0.12f * s.contact, 0.4f * s.contact, s.contact};
  float least[3] = {reach[0], reach[1], reach[2]};
  if (s.ground == 1)
    for (int k = 0; k < 3; k++) least[k] = fminf(least[k], p.y + n.y * reach[k]);
  int stack[TREE_STACK], depth = 0;
  stack[depth++] = 1;
  while (depth > 0) {
    int i = stack[--depth];
    const Node& box = w.nodes[i];
    float x = fmaxf(fmaxf(box.low[0] - p.x, p.x - box.high[0]), 0.f);
    float y = fmaxf(fmaxf(box.low[1] - p.y, p.y - box.high[1]), 0.f);
    float z = fmaxf(fmaxf(box.low[2] - p.z, p.z - box.high[2]), 0.f);
    if (x * x + y * y + z * z > 3.f * s.contact * s.contact) continue;
    if (i < s.leaf_count) {
      stack[depth++] = 2 * i;
      stack[depth++] = 2 * i + 1;
      continue;
    }
    int id = w.order[i - s.leaf_count];
    if (id < 0 || w.primitives[id].shape == MESH || w.materials[w.primitives[id].material].cut == 1) continue;
    for (int k = 0; k < 3; k++) least[k] = fminf(least[k], shape_distance(w.primitives[id], p + n * reach[k]));
  }
  float shade = 0;
  for (int k = 0; k < 3; k++) shade += (k == 0 ? 0.3f : 0.35f) * saturate(1 - least[k] / reach[k]);
  return 1 - 0.85f * shade;
}

DEVICE_CALL Surface surface_at(const World& w, Vec3 o, Vec3 d, const Hit& hit) {
  Surface s;
  s.point = o + d * hit.t;
  if (hit.id == WATER) water_surface(w, hit.t, s);
  else if (hit.id == GROUND) ground_surface(w, hit.t, s);
  else if (w.primitives[hit.id].shape == MESH) mesh_surface(w, w.primitives[hit.id], hit.mesh, d, hit.t * w.pixel, s);
  else primitive_surface(w, w.primitives[hit.id], d, hit.t * w.pixel, s);
  return s;
}

// Lambert and Blinn light from one direction.
DEVICE Vec3 reflected(const Surface& s, Vec3 view, Vec3 to_light, Vec3 color, float cosine) {
  float half = fmaxf(dot(normalize(to_light - view), s.normal), 1e-6f);
  return color * s.color * cosine + color * (s.specular * powf(half, s.gloss));
}

DEVICE_CALL Vec3 shade(const World& w, Vec3 d, const Hit& hit, const Surface& s, Rng& rng, int turn, bool coarse) {
  const Scene& scene = *w.scene;
  Vec3 color = s.color * s.emission;
  if (s.emission <= 0) {
    float open = coarse ? 0.8f : contact_light(w, s.point, s.normal, hit.id);
    Vec3 ambient = vec(scene.ambient);
    Vec3 around = scene.sky_map >= 0 ? sky_irradiance(w, s.normal) : gray(0.775f + 0.225f * s.normal.y);
    color = s.color * ambient * around * open;
    Vec3 start = s.point + s.normal * (2e-3f + 1e-4f * hit.t), sun = vec(scene.sun), sun_color = vec(scene.sun_color);
    float cosine = dot(s.normal, sun);
    if (cosine > 0 && sun_color.x + sun_color.y > 0.01f) {
      Vec3 toward = normalize(sun + vec(uniform(rng) - .5f, uniform(rng) - .5f, uniform(rng) - .5f) * 0.02f);
      bool lit = scene.window_count < 0 || scene.ground != 0 || sun_through_window(w, start, toward);
      if (lit && (coarse || !shadowed(w, start, toward, 1e4f))) color = color + reflected(s, d, toward, sun_color, cosine);
    }
    // Samples of a pixel take turns with the lights, so that each costs one shadow ray.
    if (scene.light_count > 0) {
      int i = turn % scene.light_count;
      float soft = 0.25f * fminf(scene.contact, 1.f);
      Vec3 jitter = vec(uniform(rng) - .5f, 0, uniform(rng) - .5f) * soft;
      Vec3 toward = vec(scene.light[i].position) + jitter - s.point;
      float distance = length(toward) + 1e-4f;
      toward = toward * (1 / distance);
      cosine = dot(s.normal, toward);
      if (cosine > 0 && (coarse || !shadowed(w, start, toward, distance - 0.06f))) {
        float falloff = scene.light_count / (0.15f + distance * distance);
        color = color + reflected(s, d, toward, vec(scene.light[i].color) * falloff, cosine);
      }
    }
  }
  if (scene.fog > 0) color = mix(vec(scene.horizon), color, expf(-hit.t * scene.fog));
  return color;
}

// What is seen through glass: the ray bends a little at the first face and leaves where it comes out.
DEVICE_CALL Vec3 behind_glass(const World& w, Vec3 d, const Hit& hit, const Surface& s, Rng& rng, int turn) {
  Vec3 start = s.point, bent = normalize(d - s.normal * .18f);
  Hit far = {0, NOTHING, {0, 0, 0, -1}};
  for (int k = 0; k < 4; k++) {  // the far walls of the same thing
    far = trace(w, start + bent * 2e-3f, bent, 1000.f, true);
    if (far.id != hit.id) break;
    start = start + bent * (far.t + 2e-3f);
  }
  if (far.id == NOTHING) return sky_color(w, bent);
  Surface seen = surface_at(w, start, bent, far);
  return shade(w, bent, far, seen, rng, turn, true) * s.color;
}

// Light along a ray, with one mirror bounce. `turn` is the number of the sample. `t` is the distance, or -1 for the sky.
DEVICE_CALL Vec3 radiance(const World& w, Vec3 o, Vec3 d, Rng& rng, int turn, float& t) {
  Hit hit = trace(w, o, d, 3000.f, false);
  t = -1;
  if (hit.id == NOTHING) return sky_color(w, d);
  t = hit.t;
  Surface s = surface_at(w, o, d, hit);
  Vec3 color = shade(w, d, hit, s, rng, turn, false);
  if (s.glass > 0) color = mix(color, behind_glass(w, d, hit, s, rng, turn), s.glass);
  if (s.reflect <= 0.01f || s.emission > 0) return color;
  float grazing = powf(clamp(1 + dot(s.normal, d), 1e-6f, 1.f), 5.f);
  float share = s.reflect * (0.04f + 0.96f * grazing) + (s.reflect < 1 ? s.reflect * 0.08f : 0.f);
  if (share < 0.02f) return color;
  Vec3 mirror = d - s.normal * (2 * dot(s.normal, d)), start = s.point + s.normal * (2e-3f + 1e-4f * hit.t);
  Hit second = trace(w, start, mirror, 1000.f, true);
  if (second.id == NOTHING) {
    Vec3 sky = w.scene->sky_map >= 0 ? sky_map_color(w, mirror) * vec(w.scene->ambient) : sky_color(w, mirror);
    return mix(color, sky, share);
  }
  Surface far = surface_at(w, start, mirror, second);
  return mix(color, shade(w, mirror, second, far, rng, turn, true), share);
}
