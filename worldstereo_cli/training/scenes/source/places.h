// Places where depth from one photograph went wrong: roads seen from a car, small rooms and table tops
// seen by a depth camera, glass, branches before the sky, clouds before mountains. Things have the
// sizes that they have, so that metres can be told from them.
#pragma once
#include "outdoor.h"

#define LANE 3.3f

// A thing at its true size on a table: what everybody knows the size of.
DEVICE_CALL void known_thing(Builder& b, Frame f, Vec3 at) {
  Rng& r = b.rng;
  float yaw = uniform(r, 0, TAU);
  switch (pick(r, 0, 13)) {
    case 0: case 1: mug(b, f, at, uniform(r, .21f, .27f)); return;
    case 2: bottle(b, f, at, uniform(r, .24f, .32f)); return;
    case 3: cylinder(b, f, material(b, PACKAGE), at, .033f, chance(r, .7f) ? .122f : .168f); return;  // a can
    case 4: turned_box(b, f, material(b, PACKAGE), at, vec(.19f, uniform(r, .24f, .32f), uniform(r, .05f, .08f)), yaw); return;
    case 5: turned_box(b, f, material(b, BLACK), at, vec(.072f, .009f, .15f), yaw); return;  // a telephone
    case 6: case 7: turned_box(b, f, material(b, chance(r, .7f) ? PACKAGE : PAPER), at, vec(uniform(r, .13f, .21f), uniform(r, .004f, .035f), uniform(r, .19f, .297f)), yaw); return;
    case 8: papers(b, f, at, .3f); return;
    case 9: {
      float q = uniform(r, .033f, .043f);
      int m = material(b, chance(r, .7f) ? PLASTIC : CERAMIC);
      if (!mesh(b, f, FRUIT, m, at, 2 * q)) ball(b, f, m, at + vec(0, q, 0), vec(q, q, q));
      return;
    }
    case 10: plate(b, f, at, uniform(r, .18f, .27f)); return;
    case 11: rod(b, f, material(b, chance(r, .5f) ? PLASTIC : METAL), at + vec(0, .005f, 0), at + vec(.14f * sinf(yaw), .005f, .14f * cosf(yaw)), .0045f); return;
    case 12:  // sunglasses in a case, a controller, a mouse
      ball(b, f, material(b, chance(r, .6f) ? BLACK : PLASTIC), at + vec(0, .02f, 0), vec(uniform(r, .035f, .08f), .022f, uniform(r, .03f, .05f)));
      return;
    default: basket(b, f, at, uniform(r, .25f, .35f));
  }
}

// Kitchen corners and desks as somebody with a depth camera in the hand walks past them.
DEVICE_CALL void sensor(Builder& b, float aspect) {
  Rng& r = b.rng;
  int style = chance(r, .5f) ? KITCHEN : chance(r, .6f) ? OFFICE : DINING;
  Room room = {uniform(r, 2.4f, 4.6f), uniform(r, 2.6f, 5.f), uniform(r, 2.3f, 2.8f)};
  raise_room(b, room);
  bool corner = style == KITCHEN || chance(r, .3f);
  if (corner) {  // counters along two walls
    kitchen_run(b, frame_at(0, 0, room.deep * .5f - .32f, PI), room.wide - .02f, chance(r, .6f));
    if (chance(r, .7f)) kitchen_run(b, frame_at(-room.wide * .5f + .32f, 0, -.33f, PI * .5f), room.deep - .7f, chance(r, .3f));
    int n = pick(r, 2, 8);
    for (int i = 0; i < n; i++) known_thing(b, frame_at(0, 0, 0, 0), vec(uniform(r, -.45f, .45f) * room.wide, .9f, room.deep * .5f - uniform(r, .12f, .5f)));
  }
  for (int side = corner ? 1 : 0; side < 4; side++)
    if (!(corner && side == 2)) furnish_wall(b, room, side, style, .85f);
  Frame f = frame_at(uniform(r, -.18f, .18f) * room.wide, 0, -uniform(r, .05f, .2f) * room.deep, chance(r, .6f) ? normal(r) * .1f : uniform(r, 0, TAU));
  float wide = uniform(r, .9f, 1.7f), deep = uniform(r, .7f, .95f), high = uniform(r, .71f, .76f);
  table(b, f, wide, deep, high);
  int things = pick(r, 2, 9), chairs = pick(r, 1, 5);
  for (int i = 0; i < things; i++) known_thing(b, f, vec(uniform(r, -.42f, .42f) * wide, high, uniform(r, -.4f, .4f) * deep));
  if (style == OFFICE) computer(b, frame_in(f, uniform(r, -.2f, .2f) * wide, 0, -deep * .1f, normal(r) * .2f), high);
  Rng first = b.rng;
  for (int i = 0; i < chairs; i++) {  // a set of equal chairs, pushed in or pulled out
    float side = (i & 1) ? -1.f : 1.f, x = ((i / 2 + .5f) / ((chairs + 1) / 2) - .5f) * wide * .9f, away = uniform(r, -.05f, .35f), turn = normal(r) * .25f;
    Rng now = b.rng;
    b.rng = first;
    chair(b, frame_in(f, x, 0, side * (deep * .5f + away), (side > 0 ? PI : 0) + turn));
    b.rng = now;
  }
  ceiling_things(b, room);
  // The lenses of such cameras hardly differ: 57 to 70 degrees across.
  set_lens(*b.scene, chance(r, .7f) ? uniform(r, 56, 64) : uniform(r, 64, 71), aspect);
  Vec3 target = vec(f.x + uniform(r, -.6f, .6f), uniform(r, .4f, 1.1f), f.z + uniform(r, -.5f, .5f));
  if (chance(r, .5f)) target = vec(uniform(r, -.45f, .45f) * room.wide, uniform(r, .3f, 1.5f), room.deep * uniform(r, .1f, .5f));
  float distance = log_uniform(r, .6f, 3.6f), angle = PI + normal(r) * .8f;
  Vec3 eye = inside_room(room, vec(target.x + sinf(angle) * distance, uniform(r, 1.f, 1.75f), target.z + cosf(angle) * distance), .15f);
  aim_camera(*b.scene, eye, target, normal(r) * .15f, normal(r) * .1f, normal(r) * (chance(r, .3f) ? .2f : .06f));
}

DEVICE_CALL int glass(Builder& b) {
  Rng& r = b.rng;
  int m = material(b, CERAMIC);
  if (b.scene->material_count >= MAX_MATERIALS) return m;
  Material& g = b.materials[m];
  g.pattern = PLAIN;
  g.bump = g.photo = 0;
  store(g.a, hsv(uniform(r), chance(r, .3f) ? uniform(r, .2f, .7f) : .03f, uniform(r, .6f, .9f)));
  g.reflect = 1;
  g.specular = .8f;
  g.gloss = 250;
  g.glass = uniform(r, .75f, .97f);
  return m;
}

// Few things on a plain table, close by and from above; some are of glass, some are thin.
DEVICE_CALL void glassware(Builder& b, float aspect) {
  Rng& r = b.rng;
  Room room = {uniform(r, 2.6f, 5.f), uniform(r, 2.8f, 6.f), uniform(r, 2.3f, 2.9f)};
  raise_room(b, room);
  float wide = uniform(r, .7f, 1.8f), deep = uniform(r, .6f, 1.1f), high = chance(r, .8f) ? uniform(r, .7f, .78f) : uniform(r, .38f, .5f);
  // Against a wall, or free in the room.
  Frame f = frame_at(uniform(r, -.2f, .2f) * room.wide, 0, chance(r, .4f) ? room.deep * .5f - deep * .5f - .03f : uniform(r, -.15f, .15f) * room.deep, normal(r) * .03f);
  table(b, f, wide, deep, high);
  if (chance(r, .45f)) box(b, f, material(b, chance(r, .6f) ? FABRIC : PAPER), vec(0, high, 0), vec(wide * 1.02f, .003f, deep * 1.02f));
  high += .003f;
  int n = pick(r, 2, 9), clear = glass(b), grey = material(b, chance(r, .5f) ? STONE : PLASTIC);
  b.materials[grey].bump *= .3f;
  float x0 = uniform(r, -.2f, .2f) * wide, z0 = uniform(r, -.15f, .15f) * deep;
  for (int i = 0; i < n; i++) {
    Vec3 at = vec(clamp(x0 + normal(r) * .17f, -.46f * wide, .46f * wide), high, clamp(z0 + normal(r) * .13f, -.44f * deep, .44f * deep));
    float u = uniform(r);
    int m = chance(r, .55f) ? clear : chance(r, .5f) ? grey : material(b, ANY);
    bool lying = chance(r, .35f);
    float tall = uniform(r, .09f, .25f);
    Turn turn = {uniform(r, 0, TAU), lying ? 1.5708f : 0.f, 0};
    Vec3 base = at + vec(0, lying ? tall * uniform(r, .13f, .17f) - tall * .5f : 0.f, 0);
    if (u < .25f && mesh(b, f, BOTTLE, m, base, tall, turn)) continue;
    if (u < .45f && mesh(b, f, CUP, m, base, uniform(r, .07f, .13f), turn)) continue;
    if (u < .52f && mesh(b, f, VASE, m, at, tall)) continue;
    if (u < .6f) {  // a ball, a heart, a star: small moulded shapes
      float q = uniform(r, .02f, .045f);
      for (int k = 0; k < 5; k++) ball(b, f, m, at + vec(q * .6f * sinf(k * TAU / 5), q * .6f, q * .6f * cosf(k * TAU / 5)), vec(q, q * .6f, q) * .7f);
    } else if (u < .66f) {
      float q = uniform(r, .03f, .06f);
      cylinder(b, f, m, at, q, uniform(r, .06f, .16f));
    } else known_thing(b, f, at);
  }
  if (chance(r, .5f)) furnish_wall(b, room, pick(r, 0, 3), DINING, .5f);
  if (chance(r, .4f)) chair(b, frame_in(f, uniform(r, -.3f, .3f) * wide, 0, -deep * .5f - .3f, normal(r) * .3f));
  b.scene->contact = uniform(r, .06f, .25f);
  set_lens(*b.scene, chance(r, .6f) ? uniform(r, 64, 72) : uniform(r, 45, 64), aspect);
  float elevation = uniform(r, .35f, 1.3f), distance = log_uniform(r, .35f, 1.1f), yaw = normal(r) * .6f;
  Vec3 target = vec(f.x + f.cosine * x0 + f.sine * z0, high + .05f, f.z - f.sine * x0 + f.cosine * z0);
  Vec3 eye = target - vec(sinf(yaw) * cosf(elevation), -sinf(elevation), cosf(yaw) * cosf(elevation)) * distance;
  aim_camera(*b.scene, inside_room(room, eye, .1f), target, normal(r) * .15f, normal(r) * .12f, camera_roll(r));
}

// An arrow painted on a lane, pointing along +z or, turned, along x.
DEVICE_CALL void lane_arrow(Builder& b, int white, float x, float z, float turn) {
  Frame f = frame_at(x, 0, z, turn);
  box(b, f, white, vec(0, 0, -.7f), vec(.16f, .012f, 2.4f));
  for (int i = -1; i < 2; i += 2) turned_box(b, f, white, vec(i * .22f, 0, .62f), vec(.17f, .012f, .9f), -i * .6f);
}

// A low shop or office behind its car park: flat roof, a canopy on columns, glass, a band with its name.
DEVICE_CALL void shop(Builder& b, Frame f, float wide, float high, float deep, int front) {
  Rng& r = b.rng;
  int trim = material(b, chance(r, .5f) ? WHITE : STONE), pane = material(b, DARK_GLASS);
  box(b, f, front, vec(0, 0, 0), vec(wide, high, deep));
  box(b, f, trim, vec(0, high - .3f, 0), vec(wide + .3f, .75f, deep + .3f));
  int bays = (int)(wide / uniform(r, 3.5f, 6.f)) + 1;
  for (int i = 0; i < bays && i < 7; i++) {
    float x = (i + .5f - bays * .5f) * wide / bays;
    box(b, f, pane, vec(x, .35f, deep * .5f), vec(wide / bays * .75f, fminf(high - 1.3f, 2.6f), .08f));
    if (high > 5) box(b, f, pane, vec(x, 3.7f, deep * .5f), vec(wide / bays * .6f, 1.4f, .08f));
  }
  if (chance(r, .6f)) {
    float reach = uniform(r, 1.5f, 3.5f), y = fminf(high - .4f, uniform(r, 2.8f, 3.6f));
    box(b, f, trim, vec(0, y, deep * .5f + reach * .5f), vec(wide * .9f, .3f, reach));
    for (int i = 0; i <= bays && i < 7; i++) box(b, f, trim, vec((i - bays * .5f) * wide * .88f / bays, 0, deep * .5f + reach - .2f), vec(.3f, y, .3f));
  }
  box(b, f, material(b, PACKAGE), vec(uniform(r, -.2f, .2f) * wide, high - 1.1f, deep * .5f + .05f), vec(uniform(r, 2, 6), .7f, .12f));
}

DEVICE_CALL void traffic_light(Builder& b, float side, float edge, float z) {
  int steel = material(b, METAL), dark = material(b, BLACK);
  Frame f = frame_at(side * (edge + .8f), 0, z, 0);
  rod(b, f, steel, vec(0, 0, 0), vec(0, 6.2f, 0), .11f);
  rod(b, f, steel, vec(0, 5.9f, 0), vec(-side * edge * .8f, 6.3f, 0), .07f);
  for (int k = 0; k < 3; k++) box(b, f, dark, vec(k == 0 ? 0 : -side * edge * .35f * k, k == 0 ? 2.7f : 5.4f, -.15f), vec(.32f, .95f, .25f));
}

// Concrete, without the colours of a picture.
DEVICE void pale(Builder& b, int index) {
  Material& m = b.materials[index];
  store(m.a, grayish(b.rng, .25f, .55f, .1f));
  store(m.b, vec(m.a) * uniform(b.rng, .75f, 1.05f));
  m.photo *= .3f;
}

struct Road {
  float edge;  // half of its width
  int left, right;  // lanes
  float middle;  // width of the strip between directions
};

DEVICE_CALL void road_paint(Builder& b, Road& road, float crossing) {
  Rng& r = b.rng;
  int white = material(b, WHITE), yellow = chance(r, .5f) ? material(b, PLASTIC) : white;
  if (yellow != white) store(b.materials[yellow].a, vec(.7f, .45f, .05f));
  Frame f = frame_at(0, 0, 0, 0);
  for (int side = -1; side < 2; side += 2) {
    int lanes = side < 0 ? road.left : road.right;
    box(b, f, yellow, vec(side * (road.middle * .5f + .1f), 0, 60), vec(.12f, .012f, 180));
    if (chance(r, .6f)) box(b, f, white, vec(side * (road.edge - .35f), 0, 60), vec(.13f, .012f, 180));
    for (int k = 1; k < lanes; k++) {
      float x = side * (road.middle * .5f + k * LANE), start = uniform(r, -12, 0);
      for (int i = 0; i < 7; i++) box(b, f, white, vec(x, 0, start + i * 9.f), vec(.13f, .012f, 3.f));
      box(b, f, white, vec(x, 0, 95), vec(.1f, .012f, 70));  // farther on, dashes run together
    }
    for (int k = 0; k < lanes; k++)
      if (chance(r, .3f)) lane_arrow(b, white, side * (road.middle * .5f + (k + .5f) * LANE), uniform(r, 3, 14), side < 0 ? PI : 0);
  }
  if (chance(r, .5f)) {
    box(b, f, white, vec(road.edge * .5f, 0, crossing - 3), vec(road.edge, .012f, .4f));
    for (int i = 0; i < 8; i++) box(b, f, white, vec((i - 3.5f) * road.edge * .25f, 0, crossing), vec(.5f, .012f, 2.8f));
  }
}

// What stands beside the road: a kerb and a pavement with trees and lamps, a car park, shops, fields.
DEVICE_CALL void roadside(Builder& b, Road& road, float side, const int* fronts, int leaf, int bark) {
  Rng& r = b.rng;
  Frame origin = frame_at(0, 0, 0, 0);
  float walk = uniform(r, 1.8f, 4.5f), edge = road.edge, back = edge + walk;
  int pavement = material(b, ROAD), lawn = material(b, chance(r, .6f) ? ROAD : MEADOW);
  pale(b, pavement);
  box(b, origin, pavement, vec(side * (edge + walk * .5f), 0, 60), vec(walk, .15f, 240));
  box(b, origin, lawn, vec(side * (back + 60), 0, 60), vec(120, .13f, 240));
  bool town = chance(r, .35f);
  float setback = town ? uniform(r, 0, 2) : uniform(r, 6, 32), spacing = uniform(r, 7, 16);
  if (chance(r, .75f))
    for (float z = uniform(r, -16, -4); z < 75; z += spacing * uniform(r, .8f, 1.3f)) tree(b, frame_at(side * (edge + uniform(r, .6f, 1.4f)), .1f, z, 0), uniform(r, 4.5f, 9.5f), leaf, bark);
  for (float z = uniform(r, -10, 15); z < 90; z += 32) sign_or_lamp(b, frame_at(side * (edge + .5f), .1f, z, chance(r, .5f) ? PI : 0));
  if (!town) {
    if (chance(r, .4f)) for (int k = 0; k < 10; k++) bush(b, origin, vec(side * (back + .8f), 0, -9 + k * 2.4f), uniform(r, .8f, 1.5f), leaf);
    else if (chance(r, .3f)) box(b, origin, material(b, FENCE), vec(side * (back + .3f), .1f, 30), vec(.06f, uniform(r, .8f, 1.8f), 80));
    for (int row = 0; row < 2 && setback > 9; row++)
      for (float z = uniform(r, -14, -8); z < 35 && b.scene->primitive_count < 640; z += 2.7f)
        if (chance(r, .45f)) car(b, frame_at(side * (back + 4.f + row * 10.f) + normal(r) * .2f, .12f, z, (chance(r, .5f) ? 1.f : -1.f) * PI * .5f));
  }
  for (float z = uniform(r, -30, -14); z < 130 && b.scene->primitive_count < 900;) {
    float wide = town ? uniform(r, 7, 20) : uniform(r, 14, 40), high = town ? log_uniform(r, 5, 24) : uniform(r, 3.6f, 8), deep = uniform(r, 9, 18);
    Frame f = frame_at(side * (back + setback + deep * .5f), 0, z + wide * .5f, -side * PI * .5f);
    int front = fronts[pick(r, 0, 3)];
    if (town) facade(b, f, wide, high, deep, front, z < 45);
    else if (chance(r, .75f)) shop(b, f, wide, high, deep, front);
    else house(b, f, fminf(wide, 14), high * .8f, deep, front);
    z += wide + (town ? uniform(r, 0, 3) : uniform(r, 3, 30));
  }
  int n = pick(r, 0, 3);
  for (int i = 0; i < n; i++) person(b, frame_at(side * (edge + uniform(r, .5f, walk)), .15f, uniform(r, 2, 30), uniform(r, 0, TAU)), uniform(r, 1.55f, 1.88f), false);
}

DEVICE_CALL void road_cars(Builder& b, Road& road, int own) {
  Rng& r = b.rng;
  float busy = uniform(r, .1f, .8f);
  for (int k = -road.left; k < road.right; k++) {
    float x = (k < 0 ? -1 : 1) * road.middle * .5f + (k + .5f) * LANE;
    float z = k == own ? uniform(r, 5.5f, 14) : uniform(r, -14, 4);
    for (; z < 90 && b.scene->primitive_count < 420; z += 5.2f + log_uniform(r, 1.2f, 25)) {
      bool beside = k == own && z < 5;
      if (!beside && chance(r, busy)) car(b, frame_at(x + normal(r) * .15f, 0, z, (k < 0 ? PI : 0) + normal(r) * .02f));
    }
  }
}

// A wide road as cameras on a car see it: forward through a long lens, to the sides through wide ones.
DEVICE_CALL void road(Builder& b, float aspect) {
  Rng& r = b.rng;
  Scene& s = *b.scene;
  outdoor_light(b);
  s.contact = 1.5f;
  s.ground_material = s.slope_material = material(b, ROAD);
  if (chance(r, .7f)) {
    Material& asphalt = b.materials[s.ground_material];
    store(asphalt.a, grayish(r, .05f, .17f, .05f));
    store(asphalt.b, vec(asphalt.a) * uniform(r, .7f, 1.1f));
    asphalt.photo *= .4f;
  }
  Road road = {0, pick(r, 1, 3), pick(r, 1, 4), chance(r, .4f) ? uniform(r, 1.5f, 5.f) : .2f};
  road.edge = road.middle * .5f + (road.left > road.right ? road.left : road.right) * LANE + uniform(r, .3f, 2.8f);
  int fronts[4], leaf = material(b, LEAF), bark = material(b, BARK);
  for (int i = 0; i < 4; i++) fronts[i] = material(b, HOUSE_FRONT);
  float crossing = uniform(r, 9, 45);
  int own = pick(r, 0, road.right - 1);
  // The near is built first, so that a full scene lacks what is far.
  road_paint(b, road, crossing);
  road_cars(b, road, own);
  if (road.middle > 1.4f && chance(r, .7f)) {  // a raised strip between the directions
    Frame f = frame_at(0, 0, 0, 0);
    box(b, f, material(b, chance(r, .5f) ? MEADOW : STONE), vec(0, 0, 60), vec(road.middle - .5f, .16f, 170));
    for (float z = uniform(r, -8, 4); z < 60 && chance(r, .9f); z += uniform(r, 8, 14)) tree(b, frame_at(0, .1f, z, 0), uniform(r, 4, 7), leaf, bark);
  }
  for (int side = -1; side < 2; side += 2) roadside(b, road, side, fronts, leaf, bark);
  if (chance(r, .6f)) for (int side = -1; side < 2; side += 2) traffic_light(b, side, road.edge, crossing + 4);
  for (int i = 0; i < 9; i++) bush(b, frame_at((i - 4) * 26 + uniform(r, -9, 9), 0, uniform(r, 140, 220), 0), vec(0, -1, 0), uniform(r, 9, 20), leaf);
  float u = uniform(r), yaw, fov;
  if (u < .45f) yaw = normal(r) * .03f, fov = chance(r, .6f) ? uniform(r, 44, 56) : uniform(r, 60, 90);
  else if (u < .85f) yaw = sign(r) * uniform(r, .75f, 2.2f), fov = uniform(r, 72, 95);
  else yaw = PI + normal(r) * .15f, fov = uniform(r, 44, 95);
  Vec3 eye = vec(road.middle * .5f + (own + .5f) * LANE + normal(r) * .2f, uniform(r, 1.3f, 1.85f), 0);
  set_lens(s, fov, aspect);
  set_camera(s, eye, yaw, normal(r) * .025f - .01f, normal(r) * .015f);
  if (chance(r, .45f)) {  // the edge of the car that carries the camera
    int paint = material(b, CAR_PAINT);
    Frame f = frame_at(eye.x, 0, 0, yaw);
    ball(b, f, paint, vec(uniform(r, -.3f, .3f), eye.y - uniform(r, .42f, .62f), .75f), vec(uniform(r, .8f, 1.5f), .12f, .55f));
  }
}

// Branches with tufts of leaves, or bare: the sky shows between them.
DEVICE_CALL void airy_tree(Builder& b, Frame f, float tall, int leaf, int bark) {
  Rng& r = b.rng;
  if (!mesh(b, f, BARE_TREE, bark, vec(0, -.1f, 0), tall)) rod(b, f, bark, vec(0, -.1f, 0), vec(0, tall, 0), tall * .015f);
  int n = chance(r, .25f) ? 0 : pick(r, 6, 22);
  for (int i = 0; i < n; i++) {
    float y = uniform(r, .35f, 1.f), out = .38f * sqrtf(uniform(r)) * (1.3f - y), angle = uniform(r, 0, TAU);
    bush(b, f, vec(out * cosf(angle), y - .06f, out * sinf(angle)) * tall, tall * uniform(r, .05f, .15f), leaf);
  }
}

// Branches and crowns before the sky, and mountains that clouds lie on.
DEVICE_CALL void vista(Builder& b, float aspect) {
  Rng& r = b.rng;
  Scene& s = *b.scene;
  open_country(b);
  int leaf = material(b, LEAF), leaf2 = material(b, LEAF), bark = material(b, BARK), stone = material(b, STONE);
  s.hill = log_uniform(r, .1f, 3.f);
  s.hill_frequency = log_uniform(r, .02f, .1f);
  bool mountains = chance(r, .7f), framed = !mountains || chance(r, .5f);
  if (mountains) {
    s.mountain = log_uniform(r, 40, 450);
    s.mountain_start = s.mountain * uniform(r, .4f, 1.5f) + 20;
    s.mountain_end = s.mountain_start + s.mountain * log_uniform(r, .8f, 4.f);
    s.mountain_frequency = uniform(r, .5f, 1.3f) / (s.mountain * 2 + 10);
    s.ridged = chance(r, .75f);
    s.snow = s.ridged > .5f && chance(r, .5f);
    if (chance(r, .65f)) s.bank = uniform(r, .35f, .62f);
    if (s.fog == 0 && chance(r, .4f)) s.fog = log_uniform(r, .0003f, .002f);
  }
  float base = terrain_height(s, 0, 0, TERRAIN_OCTAVES), pitch = mountains ? uniform(r, -.08f, .2f) : uniform(r, -.05f, .5f);
  if (framed) {
    int n = pick(r, 1, 6);
    for (int i = 0; i < n; i++) {
      float d = log_uniform(r, 3, 22), angle = uniform(r, -.75f, .75f), x = d * sinf(angle), z = d * cosf(angle);
      Frame f = frame_at(x, terrain_height(s, x, z, TERRAIN_OCTAVES), z, uniform(r, 0, TAU));
      float tall = uniform(r, 4, 15);
      if (chance(r, .3f)) tree(b, f, tall, chance(r, .5f) ? leaf : leaf2, bark);
      else airy_tree(b, f, tall, chance(r, .5f) ? leaf : leaf2, bark);
    }
    n = pick(r, 0, 5);
    for (int i = 0; i < n; i++) {  // boughs that hang into the picture
      float size = uniform(r, .9f, 2.6f), side = sign(r), d = uniform(r, 1.6f, 5);
      Vec3 at = vec(side * uniform(r, .1f, .8f) * d, base + 1.6f + d * uniform(r, .15f, .75f), d);
      Frame f = frame_at(0, 0, 0, 0);
      rod(b, f, bark, at + vec(side * 2.5f, .5f, .3f), at, .03f);
      if (chance(r, .5f)) mesh(b, f, chance(r, .5f) ? BUSH : CROWN, leaf, at - vec(0, size * .5f, 0), size);
      else mesh(b, f, BARE_TREE, bark, at - vec(0, size * .5f, 0), size, {uniform(r, 0, TAU), uniform(r, 1.2f, 2.2f), 0});
    }
  }
  if (!mountains || chance(r, .35f)) plant_terrain(b, base + 1.6f, leaf, leaf2, bark, stone);
  set_lens(s, outdoor_fov(r), aspect);
  set_camera(s, vec(0, base + uniform(r, 1.3f, 1.9f), 0), normal(r) * .2f, pitch, camera_roll(r));
}
