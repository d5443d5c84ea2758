// Streets: houses, vehicles, people, signs, and where a driver or a walker stands.
#pragma once
#include "indoor.h"

DEVICE_CALL void outdoor_light(Builder& b) {
  Scene& s = *b.scene;
  Rng& r = b.rng;
  float height = uniform(r, .12f, 1.35f), angle = uniform(r, 0, TAU), warm = 1 - smooth(.1f, .6f, height), u = uniform(r);
  store(s.sun, vec(cosf(height) * cosf(angle), sinf(height), cosf(height) * sinf(angle)));
  if (u < .55f) {  // clear
    store(s.sun_color, vec(1.f, .95f - .35f * warm, .88f - .6f * warm) * uniform(r, .7f, 1.8f));
    store(s.zenith, vec(.12f, .28f, .62f) * uniform(r, .5f, 1.5f));
    store(s.horizon, mix(vec(.65f, .78f, .92f), vec(1.f, .65f, .4f), warm * uniform(r)) * uniform(r, .7f, 1.2f));
    s.cloud = chance(r, .7f) ? uniform(r, .1f, .75f) : 0;
    store(s.ambient, vec(.5f, .6f, .75f) * uniform(r, .3f, .9f));
  } else if (u < .9f) {  // overcast
    float g = uniform(r, .5f, 1.2f);
    store(s.sun_color, gray(chance(r, .5f) ? 0.f : .2f));
    store(s.zenith, vec(.65f, .7f, .76f) * g * uniform(r, .6f, 1.f));
    store(s.horizon, vec(.85f, .87f, .9f) * g);
    s.cloud = uniform(r, 0, .95f);
    store(s.ambient, vec(.85f, .9f, .95f) * uniform(r, .7f, 1.2f));
  } else {  // low sun
    store(s.sun_color, vec(1.f, .45f, .2f) * uniform(r, .2f, .9f));
    s.sun[1] = uniform(r, .03f, .12f);
    store(s.zenith, vec(.15f, .15f, .35f) * uniform(r, .3f, 1.2f));
    store(s.horizon, vec(1.f, .5f, .25f) * uniform(r, .3f, 1.f));
    s.cloud = uniform(r, 0, .8f);
    store(s.ambient, vec(.4f, .35f, .45f) * uniform(r, .3f, .9f));
  }
  s.cloud_scale = uniform(r, .5f, 2.f);
  if (chance(r, .35f)) s.heap = uniform(r, .38f, .68f);
  s.sky_turn = uniform(r, 0, TAU);
  if (b.library.sky_count > 0 && chance(r, .5f)) s.sky_map = pick(r, 0, b.library.sky_count - 1);
  if (chance(r, .35f)) s.fog = log_uniform(r, .0006f, .02f);
}

DEVICE_CALL void wheels(Builder& b, Frame f, float wide, float length, float radius) {
  int tyre = material(b, BLACK), rim = material(b, METAL);
  for (int i = 0; i < 4; i++) {
    Turn axle = {0, 0, 1.5708f};
    float x = (i & 1 ? 1 : -1) * wide * .44f, z = (i & 2 ? 1 : -1) * length * .31f;
    add(b, f, CYLINDER, tyre, vec(x, radius, z), vec(radius, .11f, radius), axle);
    add(b, f, CYLINDER, rim, vec(x * 1.02f, radius, z), vec(radius * .6f, .11f, radius * .6f), axle);
  }
}

DEVICE_CALL void car(Builder& b, Frame f) {
  Rng& r = b.rng;
  if (chance(r, .12f)) {
    Turn none = {0, 0, 0};
    if (mesh(b, f, PACK_VEHICLE, material(b, CAR_PAINT), vec(0, 0, 0), 0, none)) return;
  }
  int paint = material(b, CAR_PAINT), glass = material(b, DARK_GLASS), dark = material(b, BLACK);
  int style = pick(r, 0, 5);  // 0-2 saloon, 3 estate or off-roader, 4 van, 5 lorry
  float len = style == 5 ? uniform(r, 6, 10) : style == 4 ? uniform(r, 4.6f, 6) : uniform(r, 3.7f, 4.9f);
  float wide = style == 5 ? 2.4f : uniform(r, 1.68f, 1.95f);
  float high = style == 5 ? uniform(r, 2.6f, 3.6f) : style == 4 ? uniform(r, 1.9f, 2.5f) : style == 3 ? uniform(r, 1.55f, 1.85f) : uniform(r, 1.35f, 1.5f);
  float belt = style >= 4 ? high * .48f : high * .6f, cabin = high - belt;
  if (style == 5) {
    int load = chance(r, .5f) ? paint : material(b, chance(r, .5f) ? WHITE : PACKAGE);
    box(b, f, load, vec(0, .9f, -len * .12f), vec(wide, high - .9f, len * .72f));
    box(b, f, paint, vec(0, .5f, len * .38f), vec(wide * .95f, 1.9f, len * .22f));
    box(b, f, glass, vec(0, 1.4f, len * .38f), vec(wide * .97f, .8f, len * .225f));
    box(b, f, dark, vec(0, .5f, 0), vec(wide * .8f, .4f, len * .9f));
    wheels(b, f, wide, len, .48f);
  } else {
    box(b, f, paint, vec(0, .3f, 0), vec(wide, belt - .42f, len * .97f));
    Turn along = {0, 0, 0};
    add(b, f, ELLIPSOID, paint, vec(0, belt - .22f, 0), vec(wide * .53f, .24f, len * .53f), along);
    box(b, f, dark, vec(0, .22f, 0), vec(wide * .92f, .15f, len * .99f));
    float back = style >= 3 ? -len * .12f : -len * uniform(r, .02f, .08f), span = style >= 3 ? len * .72f : len * uniform(r, .46f, .55f);
    Turn across = {1.5708f, 0, 0};
    add(b, f, PRISM, glass, vec(0, belt + cabin * .42f, back), vec(span * .78f, cabin * .9f, wide * .44f), across);
    box(b, f, paint, vec(0, high - .1f, back), vec(wide * .8f, .07f, span * (style >= 3 ? .78f : .52f)));
    if (style >= 3) box(b, f, style == 4 ? paint : glass, vec(0, belt, back - span * .05f), vec(wide * .88f, cabin * .92f, span * .8f));
    for (int i = -1; i < 2; i += 2)
      for (int k = -1; k < 2; k++) rod(b, f, paint, vec(i * wide * .45f, belt, back + k * span * .42f), vec(i * wide * .39f, high - .05f, back + k * span * .25f), .03f);
    wheels(b, f, wide, len, uniform(r, .3f, .37f));
  }
  int lamp = material(b, GLOW), tail = material(b, PLASTIC), plate_material = material(b, PAPER);
  store(b.materials[tail].a, vec(.5f, .02f, .02f));
  for (int i = -1; i < 2; i += 2) {
    box(b, f, lamp, vec(i * wide * .38f, .6f, len * .485f), vec(.3f, .13f, .04f));
    box(b, f, tail, vec(i * wide * .4f, .65f, -len * .485f), vec(.22f, .2f, .04f));
    ball(b, f, paint, vec(i * (wide * .5f + .08f), belt + .05f, len * .14f), vec(.09f, .07f, .06f));
  }
  for (int i = -1; i < 2; i += 2) box(b, f, plate_material, vec(0, .45f, i * len * .49f), vec(.5f, .11f, .02f));
}

DEVICE_CALL void bicycle(Builder& b, Frame f) {
  int tyre = material(b, BLACK), m = material(b, PLASTIC);
  Turn axle = {0, 0, 1.5708f};
  for (int i = -1; i < 2; i += 2) {
    for (int k = 0; k < 10; k++) {
      float a = k * TAU / 10, c = a + TAU / 10;
      rod(b, f, tyre, vec(0, .33f + .32f * sinf(a), i * .5f + .32f * cosf(a)), vec(0, .33f + .32f * sinf(c), i * .5f + .32f * cosf(c)), .017f);
    }
    add(b, f, CYLINDER, m, vec(0, .33f, i * .5f), vec(.03f, .05f, .03f), axle);
  }
  const Vec3 seat = vec(0, .85f, -.2f), crank = vec(0, .3f, -.05f), bar = vec(0, .9f, .38f);
  rod(b, f, m, crank, seat, .018f);
  rod(b, f, m, crank, vec(0, .75f, .35f), .018f);
  rod(b, f, m, vec(0, .72f, -.17f), vec(0, .75f, .35f), .018f);
  rod(b, f, m, vec(0, .33f, -.5f), crank, .012f);
  rod(b, f, m, vec(0, .33f, -.5f), vec(0, .72f, -.17f), .012f);
  rod(b, f, m, vec(0, .33f, .5f), bar, .018f);
  rod(b, f, tyre, bar + vec(-.28f, .05f, -.05f), bar + vec(.28f, .05f, -.05f), .014f);
  box(b, f, tyre, seat, vec(.13f, .05f, .25f));
}

DEVICE_CALL void motorcycle(Builder& b, Frame f) {
  Rng& r = b.rng;
  int tyre = material(b, BLACK), steel = material(b, METAL), paint = material(b, CAR_PAINT), seat = material(b, LEATHER);
  Turn axle = {0, 0, 1.5708f};
  for (int i = -1; i < 2; i += 2) {
    Vec3 hub = vec(0, .31f, i * .68f);
    for (int k = 0; k < 12; k++) {
      float a = k * TAU / 12, c = a + TAU / 12;
      rod(b, f, tyre, hub + vec(0, .26f * sinf(a), .26f * cosf(a)), hub + vec(0, .26f * sinf(c), .26f * cosf(c)), .055f);
      if (k % 2 == 0) rod(b, f, steel, hub, hub + vec(0, .24f * sinf(a), .24f * cosf(a)), .008f);
    }
    add(b, f, CYLINDER, steel, hub, vec(.12f, .04f, .12f), axle);
    add(b, f, ELLIPSOID, paint, hub + vec(0, .3f, i * .05f), vec(.08f, .03f, .25f));
    rod(b, f, steel, vec(i * .09f, .31f, .68f), vec(i * .09f, .95f, .42f), .025f);
    rod(b, f, steel, vec(i * .12f, .31f, -.68f), vec(i * .1f, .7f, -.5f), .025f);
    rod(b, f, tyre, vec(i * .05f, 1.f, .4f), vec(i * .36f, 1.05f, .28f), .016f);
    rod(b, f, steel, vec(i * .3f, 1.05f, .3f), vec(i * .34f, 1.22f, .32f), .006f);
    add(b, f, ELLIPSOID, steel, vec(i * .34f, 1.24f, .32f), vec(.06f, .05f, .015f));
  }
  ball(b, f, paint, vec(0, .86f, .16f), vec(.15f, .13f, .28f));
  ball(b, f, seat, vec(0, .8f, -.34f), vec(.14f, .07f, .36f));
  ball(b, f, paint, vec(0, .78f, -.68f), vec(.1f, .06f, .2f));
  box(b, f, steel, vec(0, .28f, .02f), vec(.26f, .36f, .4f));
  for (int k = 0; k < 4; k++) box(b, f, steel, vec(0, .42f + .06f * k, .24f), vec(.3f, .02f, .2f));
  rod(b, f, steel, vec(.16f, .3f, .2f), vec(.18f, .36f, -.85f), .05f);
  rod(b, f, tyre, vec(0, .3f, .35f), vec(0, .95f, .42f), .03f);
  ball(b, f, material(b, GLOW), vec(0, .92f, .56f), vec(.09f, .09f, .05f));
}

DEVICE_CALL void house(Builder& b, Frame f, float wide, float high, float deep, int front) {
  Rng& r = b.rng;
  box(b, f, front, vec(0, 0, 0), vec(wide, high, deep));
  int roof = material(b, ROAD), glass = material(b, DARK_GLASS), frame = material(b, WHITE);
  if (chance(r, .5f)) store(b.materials[roof].a, hsv(uniform(r, 0, .06f), .6f, uniform(r, .15f, .4f)));
  float rise = uniform(r, .15f, .45f) * fminf(wide, deep);
  if (chance(r, .75f)) {
    bool along = chance(r, .5f);
    Turn turn = {along ? 0 : 1.5708f, 0, 0};
    add(b, f, PRISM, roof, vec(0, high + rise * .5f, 0), vec((along ? wide : deep) * .56f, rise * .5f, (along ? deep : wide) * .54f), turn);
  }
  int n = pick(r, 2, 4);
  for (int floor_index = 0; floor_index * 2.8f + 2.4f < high && floor_index < 3; floor_index++)
    for (int i = 0; i < n; i++) {
      float x = (i + .5f - n * .5f) * wide / n * .9f, w = uniform(r, .8f, 1.3f), y = floor_index * 2.8f + 1.f;
      box(b, f, frame, vec(x, y, deep * .5f), vec(w + .15f, 1.4f, .06f));
      box(b, f, glass, vec(x, y + .08f, deep * .5f), vec(w, 1.24f, .1f));
    }
  box(b, f, material(b, TIMBER), vec(uniform(r, -.3f, .3f) * wide, 0, deep * .5f), vec(1.f, 2.1f, .12f));
  if (chance(r, .4f)) box(b, f, front, vec(uniform(r, -.3f, .3f) * wide, high, 0), vec(.7f, rise * 1.2f, .7f));
}

// A town house with shop window, balconies, cornice.
DEVICE_CALL void facade(Builder& b, Frame f, float wide, float high, float deep, int front, bool near) {
  Rng& r = b.rng;
  box(b, f, front, vec(0, 0, 0), vec(wide, high, deep));
  if (!near) return;
  int trim = material(b, WHITE), glass = material(b, DARK_GLASS);
  if (chance(r, .5f)) box(b, f, trim, vec(0, high - .3f, 0), vec(wide + .3f, .4f, deep + .5f));
  if (chance(r, .6f)) {
    box(b, f, glass, vec(0, .4f, deep * .5f), vec(wide * .75f, 2.3f, .1f));
    box(b, f, material(b, PACKAGE), vec(0, 2.85f, deep * .5f), vec(wide * .7f, .55f, .2f));
    if (chance(r, .5f)) {
      Turn slope = {0, .35f, 0};
      add(b, f, BOX, material(b, FABRIC), vec(0, 2.75f, deep * .5f + .6f), vec(wide * .4f, .03f, .75f), slope);
    }
  }
  if (chance(r, .35f)) {
    int rail = material(b, FENCE);
    for (int i = 1; i < 4 && i * 3.f + 2 < high; i++) {
      box(b, f, trim, vec(0, i * 3.f, deep * .5f + .5f), vec(wide * .5f, .12f, 1.f));
      add(b, f, BOX, rail, vec(0, i * 3.f + .6f, deep * .5f + .98f), vec(wide * .25f, .5f, .015f));
    }
  }
}

DEVICE_CALL void sign_or_lamp(Builder& b, Frame f) {
  Rng& r = b.rng;
  int pole = material(b, METAL), plate_material = material(b, PACKAGE);
  float h = uniform(r, 2.2f, 7.f);
  cylinder(b, f, pole, vec(0, 0, 0), uniform(r, .03f, .08f), h);
  if (h > 4) {
    rod(b, f, pole, vec(0, h, 0), vec(uniform(r, -1.8f, 1.8f), h + .3f, 0), .04f);
    if (chance(r, .5f)) {
      int dark = material(b, BLACK), glow = material(b, GLOW);
      box(b, f, dark, vec(.25f, 2.6f, 0), vec(.3f, .9f, .25f));
      ball(b, f, glow, vec(.25f, 3.f, .14f), vec(.09f, .09f, .04f));
    }
  } else {
    Turn facing = {0, 1.5708f, 0};
    if (chance(r, .5f)) add(b, f, CYLINDER, plate_material, vec(0, h - .2f, .06f), vec(.32f, .012f, .32f), facing);
    else box(b, f, plate_material, vec(0, h - .6f, .06f), vec(uniform(r, .3f, 1.2f), .5f, .02f));
  }
}

DEVICE_CALL void wires(Builder& b, float x, float height, float length) {
  int pole = material(b, TIMBER), wire = material(b, BLACK);
  Frame f = frame_at(0, 0, 0, 0);
  for (int i = 0; i < 5; i++) {
    float z = i * length;
    rod(b, f, pole, vec(x, 0, z), vec(x, height, z), .13f);
    rod(b, f, pole, vec(x - .8f, height - .3f, z), vec(x + .8f, height - .3f, z), .05f);
    for (int k = -1; k < 2; k += 2) {
      rod(b, f, wire, vec(x + k * .7f, height - .25f, z), vec(x + k * .7f, height - 1.f, z + length * .5f), .015f);
      rod(b, f, wire, vec(x + k * .7f, height - 1.f, z + length * .5f), vec(x + k * .7f, height - .25f, z + length), .015f);
    }
  }
}

struct Street {
  float road, walk, lawn, length;
  bool suburb;
  bool open;  // a wide road through lots and fields, buildings far and few
  int leaf, leaf2, bark;
  int fronts[4];
};

DEVICE_CALL void street_buildings(Builder& b, Street& st, float side) {
  Rng& r = b.rng;
  float z = -15 + uniform(r, 0, 8);
  while (z < st.length && b.scene->primitive_count < 380) {
    float wide = st.suburb ? uniform(r, 8, 15) : log_uniform(r, 6, 26), high = st.suburb ? uniform(r, 2.8f, 6.5f) : log_uniform(r, 4.f, 28.f), deep = uniform(r, 7, 14);
    if (st.open) wide = uniform(r, 10, 45), high = log_uniform(r, 3.5f, 14);
    float x = side * (st.road * .5f + st.walk + st.lawn + deep * .5f + uniform(r, 0, st.suburb ? 3.f : .6f));
    Frame f = frame_at(x, 0, z + wide * .5f, -side * PI * .5f);
    int front = st.fronts[pick(r, 0, 3)];
    if (st.suburb || chance(r, .2f)) house(b, f, wide * .9f, high, deep, front);
    else facade(b, f, wide, high, deep, front, z < 40);
    z += wide + (st.open ? uniform(r, 2, 45) : chance(r, .7f) ? uniform(r, 0, st.suburb ? 6.f : .1f) : uniform(r, 3, 18));
  }
}

DEVICE_CALL void street_furniture(Builder& b, Street& st, float side) {
  Rng& r = b.rng;
  Frame origin = frame_at(0, 0, 0, 0);
  float z = uniform(r, -3, 8), gap = uniform(r, 4, 14);
  for (int i = 0; i < 9; i++, z += gap * uniform(r, .5f, 1.4f)) {
    Frame f = frame_at(side * (st.road * .5f + uniform(r, .5f, st.walk + st.lawn)), 0, z, chance(r, .7f) ? PI : uniform(r, 0, TAU));
    float u = uniform(r);
    int leaf = chance(r, .5f) ? st.leaf : st.leaf2;
    if (u < .4f) tree(b, f, uniform(r, 3.5f, 12), leaf, st.bark);
    else if (u < .6f) sign_or_lamp(b, f);
    else if (u < .72f) for (int k = 0; k < 3; k++) bush(b, f, vec(uniform(r, -1.5f, 1.5f), -.1f, uniform(r, -1, 1)), uniform(r, .5f, 1.6f), leaf);
    else if (u < .8f) bicycle(b, f);
    else if (u < .86f) box(b, f, material(b, PLASTIC), vec(0, 0, 0), vec(.6f, 1.05f, .7f));
    else if (u < .91f) for (int k = 0; k < 4; k++) cylinder(b, f, material(b, METAL), vec(0, 0, k * 1.5f), .06f, .9f);
    else if (!mesh(b, f, PACK_OUTDOOR, material(b, TIMBER), vec(0, 0, 0), 0)) small_thing(b, f, vec(0, 0, 0), .8f);
  }
  if (chance(r, .3f)) add(b, origin, BOX, material(b, FENCE), vec(side * (st.road * .5f + st.walk + .2f), .7f, 15), vec(.04f, uniform(r, .4f, .9f), 18));
  if (chance(r, .25f))
    for (int k = 0; k < 12; k++) bush(b, origin, vec(side * (st.road * .5f + st.walk + st.lawn * .5f + .6f), -.1f, k * 2.2f), uniform(r, 1.2f, 2.f), st.leaf2);
  if (chance(r, .2f)) wires(b, side * (st.road * .5f + .6f), uniform(r, 7, 9), uniform(r, 18, 35));
}

#define MAX_MOVING 24

// Cars in every lane, none inside another, going the right way, denser toward a crossing.
DEVICE_CALL void moving_cars(Builder& b, Street& st, bool driving) {
  Rng& r = b.rng;
  int lanes = (int)(st.road / 3.3f), n = driving ? pick(r, 0, 3 + 2 * lanes) : pick(r, 0, 2), placed = 0;
  float place[MAX_MOVING];  // along the road, a kilometre more for every lane
  if (st.road < 5) return;
  for (int i = 0; i < n && b.scene->primitive_count < 760; i++) {
    int lane = pick(r, 0, lanes - 1);
    float x = (lane + .5f) * st.road / lanes - st.road * .5f;
    float shift = normal(r) * .15f, z = log_uniform(r, 4.5f, 70) - (chance(r, .2f) ? 12.f : 0.f);
    bool free = placed < MAX_MOVING;
    for (int k = 0; k < placed; k++) free = free && fabsf(place[k] - z - 1000.f * lane) > 6.5f;
    if (!free) continue;
    place[placed++] = z + 1000.f * lane;
    car(b, frame_at(x + shift, 0, z, (x > 0 ? 0 : PI) + normal(r) * .03f));
  }
}

// Rows of parked cars beside a wide road.
DEVICE_CALL void parking_lots(Builder& b, Street& st) {
  Rng& r = b.rng;
  for (int side = -1; side < 2; side += 2) {
    int n = pick(r, 0, 6);
    float z = uniform(r, -12, 25), x = side * (st.road * .5f + st.walk + uniform(r, 3, fmaxf(4.f, st.lawn)));
    for (int i = 0; i < n && b.scene->primitive_count < 640; i++, z += chance(r, .7f) ? 2.8f : 8.f)
      car(b, frame_at(x + normal(r) * .3f, .08f, z, side * PI * .5f + normal(r) * .05f));
  }
  if (chance(r, .35f)) {  // a planted strip in the middle of the road
    Frame f = frame_at(0, 0, 0, 0);
    float wide = uniform(r, .6f, 2.5f);
    box(b, f, material(b, chance(r, .5f) ? MEADOW : ROAD), vec(0, 0, 55), vec(wide, .16f, 100));
    for (int i = 0; i < 5; i++) bush(b, f, vec(normal(r) * .2f, .1f, 8 + i * uniform(r, 6, 12)), uniform(r, .4f, 1.2f), st.leaf2);
  }
}

DEVICE_CALL void guard_rail(Builder& b, float x) {
  int steel = material(b, METAL);
  Frame f = frame_at(x, 0, 0, 0);
  box(b, f, steel, vec(0, .5f, 50), vec(.06f, .3f, 140));
  for (int i = 0; i < 14; i++) box(b, f, steel, vec(.06f, 0, i * 4.f - 8), vec(.1f, .6f, .12f));
}

DEVICE_CALL void street_traffic(Builder& b, Street& st, bool driving) {
  Rng& r = b.rng;
  for (int s = -1; s < 2; s += 2) {
    if (!chance(r, st.open ? .2f : .65f)) continue;
    float z = uniform(r, -2, 9);
    int n = pick(r, 1, 5);
    for (int i = 0; i < n && b.scene->primitive_count < 640; i++, z += uniform(r, 5.2f, 12))
      car(b, frame_at(s * (st.road * .5f - 1.f + (st.road < 6 ? 1.2f : 0.f)), 0, z, (chance(r, .5f) ? 0 : PI) + normal(r) * .03f));
  }
  moving_cars(b, st, driving);
  if (st.open) parking_lots(b, st);
  if (driving && chance(r, .2f)) guard_rail(b, sign(r) * (st.road * .5f + .2f));
  int n;
  n = pick(r, 0, 5);
  for (int i = 0; i < n; i++) {
    Frame f = frame_at(sign(r) * (st.road * .5f + uniform(r, -.6f, 1.f) * st.walk), .08f, uniform(r, 2, 26), uniform(r, 0, TAU));
    person(b, f, uniform(r, 1.5f, 1.9f), false);
  }
}

DEVICE_CALL void road_markings(Builder& b, Street& st) {
  Rng& r = b.rng;
  int white = material(b, WHITE);
  Frame f = frame_at(0, 0, 0, 0);
  int lanes = st.open ? (int)(st.road / 3.3f) : 2;
  for (int k = 1; k < lanes && k < 6; k++) {
    if (!chance(r, .7f)) continue;
    float x = k * st.road / lanes - st.road * .5f;
    if (chance(r, .25f)) box(b, f, white, vec(x, 0, 40), vec(.14f, .012f, 110));
    else for (int i = 0; i < 8; i++) box(b, f, white, vec(x, 0, i * 8.f - 6), vec(.14f, .012f, 3.f));
  }
  if (chance(r, .5f)) for (int i = -1; i < 2; i += 2) box(b, f, white, vec(i * st.road * .44f, 0, 40), vec(.13f, .012f, 110));
  if (chance(r, .2f)) {
    float z = uniform(r, 5, 20);
    for (int i = 0; i < 8; i++) box(b, f, white, vec((i - 3.5f) * st.road / 8, 0, z), vec(st.road / 16, .012f, 3));
  }
}

DEVICE_CALL Street lay_street(Builder& b, bool driving) {
  Rng& r = b.rng;
  Scene& s = *b.scene;
  Frame origin = frame_at(0, 0, 0, 0);
  s.contact = 1.5f;
  s.ground_material = s.slope_material = material(b, ROAD);
  Street st;
  st.open = driving ? chance(r, .5f) : chance(r, .1f);
  st.road = st.open ? uniform(r, 9, 28) : driving ? uniform(r, 6, 16) : log_uniform(r, 2.5f, 12.f);
  st.walk = uniform(r, 1.2f, 5.f);
  st.suburb = chance(r, .5f);
  st.lawn = st.open ? uniform(r, 3, 35) : st.suburb ? uniform(r, 1.f, 8.f) : 0;
  st.length = uniform(r, 60, 200);
  st.leaf = material(b, LEAF);
  st.leaf2 = material(b, LEAF);
  st.bark = material(b, BARK);
  for (int i = 0; i < 4; i++) st.fronts[i] = material(b, HOUSE_FRONT);
  int pavement = material(b, ROAD), meadow = material(b, st.open && chance(r, .6f) ? ROAD : MEADOW);
  for (int side = -1; side < 2; side += 2) {
    bool kerb = chance(r, .9f);
    float edge = st.road * .5f;
    if (kerb) box(b, origin, pavement, vec(side * (edge + st.walk * .5f), 0, st.length * .4f), vec(st.walk, uniform(r, .05f, .16f), st.length * 1.4f));
    if (st.lawn > 0) box(b, origin, meadow, vec(side * (edge + st.walk + 35), 0, st.length * .4f), vec(70, .1f, st.length * 1.4f));
    float u = uniform(r);
    if (u < (driving ? .6f : .85f)) street_buildings(b, st, side);
    else for (int i = 0; i < 14; i++) tree(b, frame_at(side * (edge + st.walk + uniform(r, 1, 20)), 0, uniform(r, 0, 90), 0), uniform(r, 4, 13), chance(r, .5f) ? st.leaf : st.leaf2, st.bark);
    street_furniture(b, st, side);
  }
  street_traffic(b, st, driving);
  road_markings(b, st);
  if (chance(r, .5f)) box(b, frame_at(uniform(r, -8, 8), 0, st.length + 5, PI), st.fronts[pick(r, 0, 3)], vec(0, 0, 0), vec(uniform(r, 15, 60), uniform(r, 5, 25), 8));
  else for (int i = 0; i < 6; i++) bush(b, frame_at(uniform(r, -25, 25), 0, st.length + uniform(r, 0, 10), 0), vec(0, -1, 0), uniform(r, 6, 14), st.leaf);
  return st;
}

DEVICE_CALL void street(Builder& b, float aspect) {
  Rng& r = b.rng;
  outdoor_light(b);
  Street st = lay_street(b, false);
  float x = chance(r, .4f) ? sign(r) * (st.road * .5f + uniform(r, .2f, .8f) * st.walk) : uniform(r, -.4f, .4f) * st.road;
  float y = chance(r, .85f) ? uniform(r, 1.1f, 2.f) : log_uniform(r, 2.f, 9.f);
  float yaw = chance(r, .3f) ? uniform(r, -1.5f, 1.5f) : normal(r) * .25f, pitch = normal(r) * .09f + (y > 2.5f ? -.15f : 0.f);
  if (chance(r, .12f)) pitch += .3f;
  if (chance(r, .1f)) pitch -= .4f;
  set_lens(*b.scene, outdoor_fov(r), aspect);
  set_camera(*b.scene, vec(x, y, 0), yaw, pitch, camera_roll(r));
}

// On or above a car: level, wide, in a lane, sometimes looking to the side.
DEVICE_CALL void driving(Builder& b, float aspect) {
  Rng& r = b.rng;
  outdoor_light(b);
  Street st = lay_street(b, true);
  float yaw = chance(r, .6f) ? normal(r) * .05f : uniform(r, -2.2f, 2.2f);
  float u = uniform(r);
  set_lens(*b.scene, u < .4f ? uniform(r, 75, 102) : u < .7f ? uniform(r, 40, 58) : uniform(r, 55, 80), aspect);
  Vec3 eye = vec(uniform(r, .05f, .4f) * st.road * sign(r), uniform(r, 1.2f, 2.1f), 0);
  if (chance(r, .3f)) car(b, frame_at(eye.x + normal(r) * .3f, 0, log_uniform(r, 6.5f, 18), (chance(r, .9f) ? 0.f : PI) + normal(r) * .03f));
  set_camera(*b.scene, eye, yaw, normal(r) * .03f - .01f, normal(r) * .015f);
  if (chance(r, .25f)) {  // the bonnet
    int paint = material(b, CAR_PAINT);
    Frame f = frame_at(eye.x, 0, 0, yaw);
    ball(b, f, paint, vec(0, eye.y - .75f, 1.2f), vec(.95f, .22f, .9f));
  }
}
