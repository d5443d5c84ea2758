// A seed becomes a scene: draw a category, build it, and draw again while the camera is buried.
#pragma once
#include "places.h"

#define CATEGORY_COUNT 13  // order as CATEGORIES in settings.py
#define MAX_ATTEMPTS 6
#define PROBE_ACROSS 12
#define PROBE_DOWN 9

DEVICE_CALL void clear_scene(Scene& s, u32 seed) {
  s.primitive_count = s.material_count = s.leaf_count = s.light_count = s.window_count = 0;
  s.valid = 0;
  s.cloud = s.heap = s.bank = s.fog = s.hill = s.mountain = s.snow = s.ridged = s.snowfields = s.sky_turn = 0;
  s.ripple = .08f;
  s.cloud_scale = s.contact = 1;
  s.hill_frequency = .1f;
  s.mountain_frequency = .01f;
  s.mountain_start = 20;
  s.mountain_end = 80;
  s.ground = 1;
  s.ground_material = s.slope_material = s.water_material = 0;
  s.water = -1e6f;
  s.sky_map = -1;
  s.seed = hash(seed + 5u);
  store(s.sun, vec(0, 1, 0));
  store(s.sun_color, gray(0));
  store(s.ambient, gray(.5f));
}

DEVICE bool inside_solid(const World& w, const Primitive& p, Vec3 eye) {
  if (p.shape == ROOM) return false;
  if (p.shape == MESH) {
    const MeshInfo& info = w.library.meshes[p.mesh];
    Vec3 l = to_local(p, eye);
    return info.solid > 0 && fmaxf(fabsf(l.x), fmaxf(fabsf(l.y), fabsf(l.z))) < .9f;
  }
  return shape_distance(p, eye) < .03f;
}

// Writes scene `seed`, attempt `attempt`; one thread.
DEVICE_CALL void write_scene(Scene& s, Primitive* primitives, Material* materials, const Library& library, u32 seed,
                             u32 attempt, float aspect, const float* mixture, float camera_spread) {
  Builder b;
  b.scene = &s;
  b.primitives = primitives;
  b.materials = materials;
  b.library = library;
  b.interest_count = 0;
  b.rng.state = hash(seed * 9781u + 17u);
  clear_scene(s, seed);
  s.camera_spread = camera_spread;
  float u = uniform(b.rng);
  int category = 0;
  while (category < CATEGORY_COUNT - 1 && u >= mixture[category]) u -= mixture[category++];
  s.category = category;
  b.rng.state = hash(b.rng.state + attempt * 7919u);
  switch (category) {
    case 0: furnished_room(b, aspect, false); break;
    case 1: furnished_room(b, aspect, true); break;
    case 2: tabletop(b, aspect); break;
    case 3: street(b, aspect); break;
    case 4: driving(b, aspect); break;
    case 5: nature(b, aspect); break;
    case 6: portrait(b, aspect); break;
    case 7: aerial(b, aspect); break;
    case 8: abstract(b, aspect); break;
    case 9: road(b, aspect); break;
    case 10: sensor(b, aspect); break;
    case 11: glassware(b, aspect); break;
    default: vista(b, aspect);
  }
  if (!library.has_panoramas) s.sky_map = -1;
}

// Rays through a coarse grid: 3 points for one that ends within 15 cm, 1 within 30 cm. The camera is
// buried when that is more than MAX_BURIED of 3 points a ray: about a third of the image.
#define PROBE_RAYS (PROBE_ACROSS * PROBE_DOWN)
#define MAX_BURIED (PROBE_RAYS * 9 / 10)
DEVICE_CALL int count_near(const World& w, int ray) {
  const Scene& s = *w.scene;
  float x = ((ray % PROBE_ACROSS) + .5f) / PROBE_ACROSS * 2 - 1, y = 1 - ((ray / PROBE_ACROSS) + .5f) / PROBE_DOWN * 2;
  Vec3 d = normalize(vec(s.right) * (x * s.tan_x) + vec(s.up) * (y * s.tan_y) + vec(s.forward));
  Hit hit = trace(w, vec(s.eye), d, 3000.f, true);
  if (hit.id == NOTHING) return 0;
  return hit.t < .15f ? 3 : hit.t < .3f ? 1 : 0;
}
