// Nature, portraits, views from the air, shapes without sense.
#pragma once
#include "street.h"

DEVICE_CALL void plant_terrain(Builder& b, float eye_y, int leaf, int leaf2, int bark, int stone) {
  Rng& r = b.rng;
  Scene& s = *b.scene;
  float reach = log_uniform(r, 10, 80), tall = log_uniform(r, 3, 14), sign_z = 1;
  int trees = chance(r, .25f) ? pick(r, 0, 3) : pick(r, 6, 45), tufts = pick(r, 0, 60), rocks = pick(r, 0, 40);
  for (int i = 0; i < trees + tufts + rocks; i++) {
    bool is_tree = i < trees, is_tuft = !is_tree && i < trees + tufts;
    float d = is_tree ? log_uniform(r, 4.f, reach * 2) : log_uniform(r, .8f, 30), angle = uniform(r, -1.f, 1.f);
    float x = d * sinf(angle), z = sign_z * d * cosf(angle), y = terrain_height(s, x, z, TERRAIN_OCTAVES);
    if (s.water > -1e5f && y < s.water - (is_tree ? 0.f : .2f)) continue;
    Frame f = frame_at(x, y, z, uniform(r, 0, TAU));
    int green = chance(r, .5f) ? leaf : leaf2;
    if (is_tree) tree(b, f, tall * uniform(r, .6f, 1.4f), green, bark);
    else if (is_tuft) {
      float size = fminf(.1f + .06f * d, 1.f) * uniform(r, .5f, 1.5f);
      if (chance(r, .6f)) {
        if (!mesh(b, f, TUFT, green, vec(0, -.05f, 0), size)) bush(b, f, vec(0, -.1f, 0), size, green);
      } else bush(b, f, vec(0, -.1f, 0), size * uniform(r, 1.f, 2.2f), green);
    } else rock(b, f, vec(0, 0, 0), log_uniform(r, .04f, .3f) * (d + 1.f) * .6f, stone);
  }
}

// Light and ground of meadows and mountains.
DEVICE_CALL void open_country(Builder& b) {
  Scene& s = *b.scene;
  outdoor_light(b);
  s.contact = 1.5f;
  s.ground = 2;
  s.ground_material = material(b, MEADOW);
  s.slope_material = material(b, STONE);
}

DEVICE_CALL void nature(Builder& b, float aspect) {
  Rng& r = b.rng;
  Scene& s = *b.scene;
  open_country(b);
  int stone = material(b, STONE), leaf = material(b, LEAF), leaf2 = material(b, LEAF), bark = material(b, BARK);
  if (chance(r, .25f)) s.ground_material = stone;
  s.hill = log_uniform(r, .08f, 5.f);
  s.hill_frequency = log_uniform(r, .02f, .2f) / (1 + .3f * s.hill);
  if (chance(r, .6f)) {
    s.mountain = log_uniform(r, 4.f, 350.f);
    s.mountain_start = s.mountain * uniform(r, .2f, 1.3f) + 5;
    s.mountain_end = s.mountain_start + s.mountain * log_uniform(r, .6f, 5.f);
    s.mountain_frequency = uniform(r, .4f, 1.2f) / (s.mountain * 2 + 10);
    s.ridged = s.mountain > 15 && chance(r, .65f);
    s.snow = s.mountain > 40 && s.ridged > .5f && chance(r, .5f);
    if (chance(r, .5f) && s.fog == 0) s.fog = log_uniform(r, .0003f, .004f);
  }
  if (chance(r, .22f)) s.snowfields = chance(r, .3f) ? 1.6f : uniform(r, .2f, 1.f);
  if (chance(r, .35f)) {
    s.water = -s.hill * uniform(r, -.15f, .5f);
    s.water_material = material(b, ANY);
    s.ripple = chance(r, .4f) ? uniform(r, 0, .015f) : uniform(r, .02f, .12f);
  }
  float base = terrain_height(s, 0, 0, TERRAIN_OCTAVES);
  if (s.water > -1e5f) base = fmaxf(base, s.water);
  float y = chance(r, .8f) ? uniform(r, .5f, 2.f) : log_uniform(r, 2, 25);
  plant_terrain(b, y, leaf, leaf2, bark, stone);
  if (chance(r, .3f)) {
    float x = uniform(r, -15, 15), z = uniform(r, 12, 60);
    house(b, frame_at(x, terrain_height(s, x, z, TERRAIN_OCTAVES) - .3f, z, uniform(r, 0, TAU)), uniform(r, 5, 12), uniform(r, 2.5f, 6), uniform(r, 5, 9), material(b, HOUSE_FRONT));
  }
  if (chance(r, .25f)) {
    float z = uniform(r, 3, 12);
    add(b, frame_at(0, terrain_height(s, 0, z, TERRAIN_OCTAVES), z, uniform(r, -.5f, .5f)), BOX, material(b, FENCE), vec(0, .5f, 0), vec(25, .6f, .05f));
  }
  int n = chance(r, .4f) ? pick(r, 1, 3) : 0;
  for (int i = 0; i < n; i++) {
    float x = uniform(r, -3, 3), z = uniform(r, 2, 12);
    Frame f = frame_at(x, terrain_height(s, x, z, TERRAIN_OCTAVES), z, uniform(r, 0, TAU));
    if (chance(r, .5f)) person(b, f, uniform(r, 1.5f, 1.9f), chance(r, .2f));
    else animal(b, f, uniform(r, .4f, 1.5f));
  }
  if (chance(r, .2f)) {
    float z = uniform(r, 1.f, 4.f);
    clutter(b, frame_at(uniform(r, -.6f, .6f), terrain_height(s, 0, z, TERRAIN_OCTAVES), z, 0), vec(0, -.02f, 0), 1.2f, 1.2f, pick(r, 1, 5), .7f);
  }
  set_lens(s, outdoor_fov(r), aspect);
  set_camera(s, vec(0, base + y, 0), normal(r) * .25f, normal(r) * .13f - (y > 3 ? .18f : .05f), camera_roll(r));
}

// A person, an animal or a thing close to the lens before something far away.
DEVICE_CALL void portrait(Builder& b, float aspect) {
  Rng& r = b.rng;
  Scene& s = *b.scene;
  bool indoors = chance(r, .35f);
  if (indoors) furnished_room(b, aspect, false);
  else if (chance(r, .5f)) street(b, aspect);
  else nature(b, aspect);
  bool narrow = chance(r, .5f);
  set_lens(s, narrow ? uniform(r, 22, 50) : uniform(r, 50, 75), aspect);
  float u = uniform(r), size = u < .5f ? uniform(r, .5f, 1.7f) : u < .66f ? uniform(r, .3f, .9f) : u < .76f ? uniform(r, .9f, 1.8f)
                                 : u < .86f ? uniform(r, .3f, 1.2f) : uniform(r, .1f, .5f);
  float vertical = 2 * s.tan_y, distance = clamp(size / (vertical * uniform(r, .4f, 1.1f)), .35f, indoors ? 2.2f : 6.f);
  Vec3 forward = vec(s.forward), eye = vec(s.eye), right = vec(s.right);
  turn_camera(s, eye, atan2f(forward.x, forward.z), clamp(asinf(forward.y), -.25f, .2f), camera_roll(r) * s.camera_spread);
  forward = vec(s.forward);
  Vec3 at = eye + forward * distance + right * (normal(r) * .2f * distance * s.tan_x);
  float facing = atan2f(forward.x, forward.z) + PI + normal(r) * .5f;
  if (u < .5f) {
    bool crowd = chance(r, .25f);
    for (int i = 0; i < (crowd ? 3 : 1); i++) {
      float height = chance(r, .2f) ? uniform(r, 1.f, 1.4f) : uniform(r, 1.5f, 1.9f), top = at.y + size * .38f;
      person(b, frame_at(at.x + (i ? sign(r) * .55f : 0), top - height, at.z + (i ? uniform(r, 0.f, .4f) : 0), facing), height, false);
    }
  } else if (u < .66f) {
    animal(b, frame_at(at.x, at.y - size * .6f, at.z, facing + normal(r)), size);
  } else if (u < .76f) {
    Frame f = frame_at(at.x, fmaxf(at.y - size * .5f, eye.y - 1.6f), at.z, facing + uniform(r, .6f, 2.4f) * sign(r));
    if (chance(r, .5f)) bicycle(b, f);
    else motorcycle(b, f);
  } else if (u < .86f) {
    Frame f = frame_at(at.x, at.y - size * .5f, at.z, facing);
    int leaf = material(b, LEAF), count = pick(r, 1, 4);
    if (leaf != NO_MATERIAL) b.materials[leaf].cut = 0;
    for (int i = 0; i < count; i++) {
      Vec3 place = vec(normal(r) * size * .35f, 0, normal(r) * size * .35f);
      if (chance(r, .4f)) pot_plant(b, f, place, size);
      else if (!mesh(b, f, chance(r, .5f) ? HOUSEPLANT : BUSH, leaf, place, size)) bush(b, f, place, size, leaf);
    }
  } else {
    Frame f = frame_at(at.x, at.y - size * .5f, at.z, facing);
    box(b, f, material(b, TIMBER), vec(0, -.04f, 0), vec(size * 3, .04f, size * 2));
    clutter(b, f, vec(0, 0, 0), size * 1.5f, size * .8f, pick(r, 1, 4), size);
  }
  s.contact = fminf(s.contact, .6f);
}

DEVICE_CALL void aerial(Builder& b, float aspect) {
  Rng& r = b.rng;
  Scene& s = *b.scene;
  outdoor_light(b);
  s.contact = 3;
  s.ground_material = s.slope_material = material(b, chance(r, .6f) ? MEADOW : ROAD);
  int leaf = material(b, LEAF), leaf2 = material(b, LEAF), bark = material(b, BARK), road = material(b, ROAD);
  int fronts[4];
  for (int i = 0; i < 4; i++) fronts[i] = material(b, HOUSE_FRONT);
  float block = uniform(r, 22, 45), y = log_uniform(r, 12, 120), turn = uniform(r, 0, TAU);
  bool towers = chance(r, .35f);
  Frame origin = frame_at(0, 0, 0, turn);
  for (int i = -4; i < 5; i++) {
    box(b, origin, road, vec(i * block, 0, 0), vec(7, .05f, 400));
    box(b, origin, road, vec(0, 0, i * block), vec(400, .06f, 7));
  }
  for (int i = 0; i < 90 && s.primitive_count < 600; i++) {
    float x = (pick(r, -4, 3) + .5f) * block + uniform(r, -.28f, .28f) * block, z = (pick(r, -4, 3) + .5f) * block + uniform(r, -.28f, .28f) * block;
    Frame f = frame_in(origin, x, 0, z, pick(r, 0, 3) * PI * .5f);
    float u = uniform(r);
    if (u < .35f) tree(b, f, uniform(r, 4, 12), chance(r, .5f) ? leaf : leaf2, bark);
    else if (u < .85f) {
      float high = towers ? log_uniform(r, 5, 50) : uniform(r, 3, 8);
      box(b, f, fronts[pick(r, 0, 3)], vec(0, 0, 0), vec(uniform(r, 8, 15), high, uniform(r, 8, 13)));
      if (!towers) add(b, f, PRISM, road, vec(0, high + 1.3f, 0), vec(7, 1.3f, 7));
    } else car(b, frame_in(origin, pick(r, -4, 4) * block + 1.8f * sign(r), 0, uniform(r, -4, 4) * block, 0));
  }
  float pitch = -uniform(r, .25f, 1.3f);
  set_lens(s, outdoor_fov(r), aspect);
  Vec3 eye = vec(0, y, 0) - vec(0, 0, y / tanf(-pitch)) * uniform(r, .5f, 1.f);
  turn_camera(s, eye, normal(r) * .2f, pitch, camera_roll(r) * s.camera_spread);
}

// Shapes without sense: keeps the network from leaning on context alone.
DEVICE_CALL void abstract(Builder& b, float aspect) {
  Rng& r = b.rng;
  Scene& s = *b.scene;
  Frame f = frame_at(0, 0, 0, 0);
  bool indoors = chance(r, .5f);
  float scale = indoors ? 1.f : log_uniform(r, .3f, 4.f);
  Room room = {6, 7, 3};
  if (indoors) room = room_shell(b, LIVING);
  else {
    outdoor_light(b);
    s.ground_material = s.slope_material = material(b, ANY);
    if (chance(r, .6f)) s.fog = 0;
    Turn lean = {uniform(r, -.6f, .6f), uniform(r, -.2f, .2f), 0};
    if (chance(r, .5f)) add(b, f, BOX, material(b, ANY), vec(uniform(r, -1, 1) * scale, 0, uniform(r, 4, 12) * scale), vec(40 * scale, 40 * scale, .3f), lean);
  }
  s.contact = scale * .7f;
  int n = pick(r, 12, 70);
  for (int i = 0; i < n; i++) {
    float d = log_uniform(r, .8f, 10.f) * scale, angle = uniform(r, -.8f, .8f), size = scale * log_uniform(r, .06f, .8f) * sqrtf(d / scale);
    Vec3 at = indoors ? vec(uniform(r, -.48f, .48f) * room.wide, chance(r, .5f) ? size * .5f : uniform(r, 0, room.high), uniform(r, -.48f, .48f) * room.deep)
                      : vec(d * sinf(angle), chance(r, .6f) ? size * .6f : uniform(r, 0, 2.5f) * scale, d * cosf(angle));
    Vec3 half = vec(log_uniform(r, .15f, 1.3f), log_uniform(r, .15f, 1.3f), log_uniform(r, .15f, 1.3f)) * size;
    Turn turn = {uniform(r, 0, TAU), chance(r, .5f) ? 0 : uniform(r, 0, TAU), chance(r, .5f) ? 0 : uniform(r, 0, TAU)};
    if (chance(r, .3f) && mesh(b, f, pick(r, 0, MESH_GROUP_COUNT - 1), material(b, ANY), at - vec(0, half.y, 0), half.y * 2, turn)) continue;
    add(b, f, pick(r, 0, 5), material(b, chance(r, .08f) ? FENCE : ANY), at, half, turn);
  }
  if (indoors) {
    handheld_camera(b, room, aspect);
  } else {
    set_lens(s, outdoor_fov(r), aspect);
    set_camera(s, vec(0, uniform(r, .5f, 1.6f) * scale, 0), normal(r) * .2f, normal(r) * .2f - .1f, camera_roll(r) * 2);
  }
}
