// Rooms and still lifes.
#pragma once
#include "cameras.h"

enum RoomStyle { LIVING, BEDROOM, KITCHEN, OFFICE, DINING, STORAGE, CORRIDOR, ROOM_STYLES };

DEVICE_CALL void indoor_light(Builder& b, Room room) {
  Scene& s = *b.scene;
  Rng& r = b.rng;
  s.light_count = pick(r, 1, 2);  // two samples a pixel see both
  for (int i = 0; i < s.light_count; i++) {
    Light& l = s.light[i];
    store(l.position, vec(uniform(r, -.38f, .38f) * room.wide, room.high * uniform(r, .7f, .94f), uniform(r, -.4f, .4f) * room.deep));
    float power = uniform(r, .4f, 1.3f) * (room.wide * room.deep * .08f + .8f) / sqrtf((float)s.light_count), warm = uniform(r);
    store(l.color, vec(1, .95f - .2f * warm, .9f - .45f * warm) * power);
  }
  store(s.ambient, vec(uniform(r, .85f, 1), uniform(r, .85f, 1), uniform(r, .8f, 1)) * log_uniform(r, .2f, .8f));
  if (b.library.sky_count > 0 && chance(r, .6f)) {
    s.sky_map = pick(r, 0, b.library.sky_count - 1);
    s.sky_turn = uniform(r, 0, TAU);
  }
  store(s.zenith, vec(.5f, .6f, .8f));
  store(s.horizon, vec(.8f, .85f, .9f));
  if (chance(r, .45f)) {
    float angle = uniform(r, 0, TAU);
    store(s.sun, normalize(vec(cosf(angle), uniform(r, .25f, 1.1f), sinf(angle))));
    store(s.sun_color, vec(1.f, .9f, .75f) * uniform(r, .8f, 3.f));
  }
}

DEVICE_CALL void curtain(Builder& b, Frame f, float x, float wide, float high) {
  int m = material(b, FABRIC);
  float fold = uniform(b.rng, .05f, .09f);
  int n = (int)(wide / fold);
  for (int i = 0; i < n && i < 6; i++)
    add(b, f, CYLINDER, m, vec(x + (i + .5f - n * .5f) * fold, high * .5f, .1f + .02f * (i & 1)), vec(fold * .75f, high * .5f, .03f));
}

// A window in a wall: a bright pane, a frame, perhaps curtains or blinds, and a hole for the sun.
DEVICE_CALL void window(Builder& b, Frame f, float wide, float low, float high) {
  Rng& r = b.rng;
  Scene& s = *b.scene;
  int frame = material(b, chance(r, .65f) ? WHITE : TIMBER), pane = material(b, BRIGHT_WINDOW);
  box(b, f, frame, vec(0, low - .06f, 0), vec(wide + .12f, high - low + .12f, .06f));
  box(b, f, pane, vec(0, low, 0), vec(wide, high - low, .08f));
  int bars = pick(r, 0, 3);
  for (int i = 1; i <= bars; i++) box(b, f, frame, vec(wide * (i / (bars + 1.f) - .5f), low, 0), vec(.045f, high - low, .11f));
  if (chance(r, .5f)) box(b, f, frame, vec(0, mix(low, high, uniform(r, .4f, .7f)), 0), vec(wide, .045f, .11f));
  box(b, f, frame, vec(0, low - .05f, .08f), vec(wide + .2f, .035f, .18f));
  if (chance(r, .4f)) clutter(b, f, vec(0, low - .015f, .09f), wide, .1f, pick(r, 1, 3), .25f);
  if (chance(r, .45f)) for (int i = -1; i < 2; i += 2) curtain(b, f, i * (wide * .5f + .1f), uniform(r, .15f, .45f), high + .25f);
  else if (chance(r, .2f)) {
    int slat = material(b, WHITE), n = pick(r, 6, 14);
    for (int i = 0; i < n; i++) {
      Turn tilt = {0, .6f, 0};
      add(b, f, BOX, slat, vec(0, high - i * .045f, .08f), vec(wide * .5f, .002f, .02f), tilt);
    }
  }
  if (s.window_count >= MAX_WINDOWS) return;
  Window& hole = s.window[s.window_count++];
  store(hole.center, vec(f.x, (low + high) * .5f, f.z));
  store(hole.half, vec(fabsf(f.cosine) * wide * .5f, (high - low) * .5f, fabsf(f.sine) * wide * .5f));
  if (hole.half[0] < .01f) hole.half[0] = 0;
  if (hole.half[2] < .01f) hole.half[2] = 0;
}

DEVICE_CALL void door(Builder& b, Frame f) {
  Rng& r = b.rng;
  int frame = material(b, chance(r, .6f) ? WHITE : TIMBER), leaf = material(b, chance(r, .5f) ? WHITE : TIMBER), knob = material(b, METAL);
  float w = uniform(r, .75f, .95f), h = uniform(r, 1.98f, 2.1f);
  box(b, f, frame, vec(0, 0, 0), vec(w + .16f, h + .08f, .05f));
  float swing = chance(r, .3f) ? uniform(r, .3f, 1.6f) : 0;
  if (swing > 0) box(b, f, material(b, BLACK), vec(0, 0, 0), vec(w, h, .06f));
  Frame hinge = frame_in(f, -w * .5f, 0, .03f, -swing);
  box(b, hinge, leaf, vec(w * .5f, .005f, 0), vec(w, h, .04f));
  for (int i = 0; i < 2; i++) box(b, hinge, leaf, vec(w * .5f, h * (.1f + .47f * i), .02f), vec(w * .7f, h * .36f, .015f));
  rod(b, hinge, knob, vec(w * .9f, 1.f, .06f), vec(w * .78f, 1.f, .06f), .011f);
}

DEVICE_CALL void wall_picture(Builder& b, Frame f, float y) {
  Rng& r = b.rng;
  float w = uniform(r, .25f, 1.2f), h = uniform(r, .25f, .9f);
  box(b, f, material(b, chance(r, .5f) ? TIMBER : BLACK), vec(0, y - h * .5f - .025f, 0), vec(w + .05f, h + .05f, .03f));
  if (chance(r, .4f)) {
    box(b, f, material(b, WHITE), vec(0, y - h * .5f, 0), vec(w, h, .034f));
    w *= .75f;
    h *= .75f;
  }
  box(b, f, material(b, PICTURE), vec(0, y - h * .5f, 0), vec(w, h, .038f));
}

// Whiteboards, notice boards, radiators, wall shelves, switches, clocks.
DEVICE_CALL void wall_thing(Builder& b, Frame f) {
  Rng& r = b.rng;
  int m;
  switch (pick(r, 0, 6)) {
    case 0: case 1: wall_picture(b, f, uniform(r, 1.35f, 1.8f)); return;
    case 2:
      box(b, f, material(b, METAL), vec(0, .88f, 0), vec(1.64f, 1.04f, .02f));
      box(b, f, material(b, chance(r, .6f) ? WHITE : FABRIC), vec(0, .9f, 0), vec(1.6f, 1.f, .026f));
      for (int i = 0; i < 4; i++) box(b, f, material(b, PAPER), vec(uniform(r, -.7f, .7f), uniform(r, 1.f, 1.6f), .013f), vec(.2f, .26f, .005f));
      return;
    case 3:
      m = material(b, WHITE);
      for (int i = 0; i < 9; i++) box(b, f, m, vec((i - 4) * .09f, .12f, .06f), vec(.075f, .6f, .06f));
      return;
    case 4:
      m = material(b, TIMBER);
      for (int i = 0; i < 2; i++) {
        box(b, f, m, vec(0, 1.3f + .4f * i, .1f), vec(.9f, .025f, .2f));
        clutter(b, f, vec(0, 1.325f + .4f * i, .1f), .8f, .1f, pick(r, 2, 5), .25f);
      }
      return;
    case 5:
      m = material(b, WHITE);
      box(b, f, m, vec(0, 1.1f, 0), vec(.08f, .08f, .012f));
      box(b, f, m, vec(.4f, .3f, 0), vec(.08f, .08f, .012f));
      return;
    default: {
      Turn facing = {0, 1.5708f, 0};
      add(b, f, CYLINDER, material(b, BLACK), vec(0, 1.9f, .02f), vec(.16f, .02f, .16f), facing);
      add(b, f, CYLINDER, material(b, PICTURE), vec(0, 1.9f, .025f), vec(.14f, .02f, .14f), facing);
    }
  }
}

// One piece of furniture along a wall. Returns how much of the wall it took.
DEVICE_CALL float wall_piece(Builder& b, Frame wall, float at, float left, int style, Room room) {
  Rng& r = b.rng;
  float w = fminf(uniform(r, .6f, 1.8f), left), u = uniform(r), d = uniform(r, .28f, .55f);
  Frame f = frame_in(wall, at + w * .5f, 0, d * .5f + .02f, 0), on_wall = frame_in(wall, at + w * .5f, 0, 0, 0);
  float free_end = fmaxf(0.f, left - w);
  if (u < .1f && left > 1.1f) {
    door(b, frame_in(wall, at + .55f, 0, 0, 0));
    return 1.15f;
  }
  if (u < .24f && w > .6f) {
    window(b, on_wall, w * .85f, uniform(r, .5f, 1.05f), fminf(room.high - .2f, uniform(r, 1.8f, 2.4f)));
    if (chance(r, .5f)) wall_thing(b, on_wall);
    return w;
  }
  if (u < .36f) {
    wall_thing(b, on_wall);
    return w;
  }
  float v = uniform(r);
  if (style == KITCHEN && v < .6f) {
    float run = fminf(left, uniform(r, 1.2f, 3.f));
    kitchen_run(b, frame_in(wall, at + run * .5f, 0, .32f, 0), run, chance(r, .6f));
    return run;
  }
  if (style == KITCHEN && v < .75f) {
    fridge(b, frame_in(wall, at + .35f, 0, .32f, 0), fminf(.65f, left), chance(r, .6f) ? uniform(r, 1.5f, 1.9f) : .85f);
    return .7f;
  }
  if ((style == OFFICE && v < .6f) || (style == BEDROOM && v < .2f)) {
    float span = fminf(left, uniform(r, 1.1f, 2.f));
    desk(b, frame_in(wall, at + span * .5f, 0, .4f, 0), span, .75f);
    return span + .1f;
  }
  if (style == BEDROOM && v < .5f && left > 1.4f) {
    bed(b, frame_in(wall, at + fminf(left, 1.9f) * .5f, 0, 1.05f, 0));
    return 2.f;
  }
  if ((style == LIVING && v < .45f) || v < .08f) {
    float span = fminf(left, uniform(r, .8f, 2.3f));
    sofa(b, frame_in(wall, at + span * .5f, 0, .5f, normal(r) * .03f), span);
    if (chance(r, .6f)) wall_picture(b, frame_in(wall, at + span * .5f, 0, 0, 0), 1.6f);
    return span + .1f;
  }
  if (style == STORAGE && v < .6f) {
    storage_pile(b, frame_in(wall, at + w * .5f, 0, .5f, 0), w, .8f);
    return w;
  }
  if (v < .72f) shelf(b, f, w, uniform(r, .8f, fminf(2.2f, room.high - .1f)), d);
  else if (v < .86f) {
    cabinet(b, f, w, chance(r, .6f) ? uniform(r, .5f, 1.1f) : uniform(r, 1.6f, 2.1f), d);
  } else if (v < .93f) floor_lamp(b, frame_in(wall, at + .25f, 0, .25f, 0));
  else {
    int group = chance(r, .5f) ? PACK_STORAGE : PACK_LARGE;
    Turn none = {0, 0, 0};
    Primitive* p = mesh(b, f, group, material(b, TIMBER), vec(0, 0, 0), 0, none);
    if (!p) pot_plant(b, f, vec(0, 0, 0), uniform(r, .5f, 1.2f));
  }
  return w + (free_end > .3f ? uniform(r, 0.f, .3f) : 0.f);
}

// Side 0 is far (+z), 1 near, 2 left, 3 right.
DEVICE_CALL void furnish_wall(Builder& b, Room room, int side, int style, float density) {
  bool along_x = side < 2;
  float run = along_x ? room.wide : room.deep, reach = (along_x ? room.deep : room.wide) * .5f;
  float yaw = side == 0 ? PI : side == 1 ? 0 : side == 2 ? PI * .5f : -PI * .5f;
  Frame wall = frame_at(along_x ? 0 : side == 2 ? -reach : reach, 0, along_x ? (side == 0 ? reach : -reach) : 0, yaw);
  float at = -run * .5f + uniform(b.rng, .05f, .5f);
  while (at < run * .5f - .6f && b.scene->primitive_count < ROOM_BUDGET) {
    if (chance(b.rng, density)) at += wall_piece(b, wall, at, run * .5f - at - .05f, style, room);
    else at += uniform(b.rng, .2f, .9f);
  }
}

DEVICE_CALL void furnish_walls(Builder& b, Room room, int style, float density) {
  for (int side = 0; side < 4; side++) furnish_wall(b, room, side, style, density);
}

// A wall across the room with an opening: a view into the next room.
DEVICE_CALL void partition(Builder& b, Room room) {
  Rng& r = b.rng;
  bool across = chance(r, .5f);
  float run = across ? room.wide : room.deep, at = uniform(r, -.2f, .2f) * (across ? room.deep : room.wide);
  float gap = uniform(r, .8f, fminf(2.6f, run * .6f)), middle = uniform(r, -.3f, .3f) * (run - gap), high = chance(r, .8f) ? uniform(r, 2.f, 2.15f) : room.high;
  Frame f = across ? frame_at(0, 0, at, 0) : frame_at(at, 0, 0, PI * .5f);
  int wall = chance(r, .6f) ? 1 : material(b, WALL), trim = material(b, chance(r, .6f) ? WHITE : TIMBER);
  for (int i = -1; i < 2; i += 2) {
    float edge = middle + i * gap * .5f, wide = run * .5f - i * edge;
    box(b, f, wall, vec(edge + i * wide * .5f, 0, 0), vec(wide, room.high, .12f));
    box(b, f, trim, vec(edge + i * .03f, 0, 0), vec(.07f, high, .15f));
    if (wide > 1.f && chance(r, .5f)) wall_thing(b, frame_in(f, edge + i * wide * .5f, 0, i * .06f, i > 0 ? 0 : PI));
  }
  if (high < room.high) box(b, f, wall, vec(middle, high, 0), vec(gap, room.high - high, .12f));
}

DEVICE_CALL void dining_set(Builder& b, Frame f) {
  Rng& r = b.rng;
  float w = uniform(r, .8f, 2.f), d = uniform(r, .7f, 1.f), h = uniform(r, .7f, .77f);
  table(b, f, w, d, h);
  clutter(b, f, vec(0, h, 0), w, d, pick(r, 2, 10), .25f);
  int n = pick(r, 1, 7);
  bool same = chance(r, .7f);  // a set of equal chairs
  Rng first = b.rng;  // the same draws give the same chair
  for (int i = 0; i < n; i++) {
    float side = (i & 1) ? -1.f : 1.f, x = ((i / 2 + .5f) / ((n + 1) / 2) - .5f) * w * .95f, away = uniform(r, .05f, .3f), turn = normal(r) * .2f;
    Rng now = b.rng;
    if (same) b.rng = first;
    chair(b, frame_in(f, x, 0, side * (d * .5f + away), (side > 0 ? PI : 0) + turn));
    if (same) b.rng = now;
  }
}

DEVICE_CALL void furnish_middle(Builder& b, Room room, int style) {
  Rng& r = b.rng;
  int n = style == CORRIDOR ? 0 : 1 + (int)(room.wide * room.deep / 12.f);
  for (int i = 0; i < n && i < 5; i++) {
    Frame f = frame_at(uniform(r, -.3f, .3f) * room.wide, 0, uniform(r, -.3f, .3f) * room.deep, uniform(r, 0, TAU));
    float u = uniform(r);
    if (style == DINING || u < .25f) dining_set(b, f);
    else if (style == OFFICE && u < .7f) desk(b, f, uniform(r, 1.f, 1.8f), .75f);
    else if (style == LIVING && u < .6f) {
      float h = uniform(r, .35f, .5f);
      table(b, f, uniform(r, .6f, 1.3f), uniform(r, .5f, .8f), h);
      clutter(b, f, vec(0, h, 0), .7f, .4f, pick(r, 1, 7), .2f);
    } else if (style == KITCHEN && u < .5f) kitchen_run(b, f, uniform(r, 1.f, 2.2f), false);
    else if (style == STORAGE && u < .5f) storage_pile(b, f, 1.f, 1.f);
    else if (style == STORAGE && u < .75f) {  // a garage
      if (mesh(b, f, chance(r, .5f) ? PACK_VEHICLE : PACK_OUTDOOR, material(b, METAL), vec(0, 0, 0), uniform(r, .8f, 1.3f))) note(b, f, .6f);
    }
    else if (u < .76f) chair(b, f);
    else if (u < .87f) person(b, f, uniform(r, 1.4f, 1.9f), chance(r, .4f));
    else if (u < .91f) animal(b, f, uniform(r, .3f, .7f));
    else if (u < .95f) sofa(b, f, uniform(r, .8f, 1.8f));
    else staircase(b, f, uniform(r, .8f, 1.2f), pick(r, 4, 12));
  }
}

DEVICE_CALL void ceiling_things(Builder& b, Room room) {
  Rng& r = b.rng;
  Scene& s = *b.scene;
  Frame f = frame_at(0, 0, 0, 0);
  if (chance(r, .7f)) {
    int glow = material(b, GLOW), wire = material(b, BLACK), style = pick(r, 0, 2);
    for (int i = 0; i < s.light_count; i++) {
      Vec3 p = vec(s.light[i].position);
      if (style == 0) box(b, f, glow, vec(p.x, room.high - .04f, p.z), vec(uniform(r, .3f, 1.2f), .04f, uniform(r, .15f, .6f)));
      else {
        float drop = style == 1 ? .15f : fminf(room.high - 1.6f, uniform(r, .3f, 1.f));
        rod(b, f, wire, vec(p.x, room.high, p.z), vec(p.x, room.high - drop, p.z), .006f);
        if (!mesh(b, f, LAMPSHADE, glow, vec(p.x, room.high - drop - .2f, p.z), .25f)) ball(b, f, glow, vec(p.x, room.high - drop - .1f, p.z), vec(.15f, .12f, .15f));
      }
    }
  }
  if (chance(r, .12f)) {
    int beam = material(b, TIMBER);
    for (int i = 0; i < 5; i++) box(b, f, beam, vec(0, room.high - .2f, (i - 2) * room.deep * .2f), vec(room.wide, .2f, .15f));
  }
  if (chance(r, .25f)) {
    int pillar = 1;
    Vec3 at = vec(uniform(r, -.35f, .35f) * room.wide, 0, uniform(r, -.35f, .35f) * room.deep);
    bool partition = chance(r, .5f);
    box(b, f, pillar, at, vec(partition ? room.wide * .35f : .35f, room.high, partition ? .12f : .35f));
  }
}

DEVICE_CALL Room room_size(Rng& r, int style) {
  Room room = {log_uniform(r, 2.6f, 7.f), log_uniform(r, 3.f, 9.f), uniform(r, 2.2f, 3.2f)};
  if (style == CORRIDOR) room.wide = uniform(r, 1.2f, 2.4f), room.deep = uniform(r, 6, 25);
  else if (chance(r, .08f)) room.wide *= 2, room.deep *= 2, room.high = uniform(r, 3.2f, 7);
  return room;
}

// Floor, walls, ceiling, lamps, skirting and carpet.
DEVICE_CALL void raise_room(Builder& b, Room room) {
  Rng& r = b.rng;
  int floor_material = material(b, FLOOR), wall = material(b, WALL), top = material(b, CEILING), accent = material(b, WALL);
  if (chance(r, .7f)) b.materials[accent] = b.materials[wall];
  if (chance(r, .05f)) b.materials[top] = b.materials[wall];
  b.scene->ground = 0;
  b.scene->contact = uniform(r, .4f, 1.f);
  Frame f = frame_at(0, 0, 0, 0);
  add(b, f, ROOM, floor_material, vec(0, room.high * .5f, 0), vec(room.wide, room.high, room.deep) * .5f);
  indoor_light(b, room);
  if (chance(r, .6f)) {
    int skirt = material(b, WHITE);
    float h = uniform(r, .06f, .12f);
    for (int i = -1; i < 2; i += 2) {
      box(b, f, skirt, vec(i * room.wide * .5f, 0, 0), vec(.03f, h, room.deep));
      box(b, f, skirt, vec(0, 0, i * room.deep * .5f), vec(room.wide, h, .03f));
    }
  }
  if (chance(r, .4f)) turned_box(b, f, material(b, FABRIC), vec(uniform(r, -.1f, .1f) * room.wide, 0, uniform(r, -.15f, .15f) * room.deep),
                                 vec(room.wide * uniform(r, .3f, .7f), .012f, room.deep * uniform(r, .2f, .6f)), normal(r) * .1f);
}

DEVICE_CALL Room room_shell(Builder& b, int style) {
  Room room = room_size(b.rng, style);
  raise_room(b, room);
  return room;
}

DEVICE_CALL void furnished_room(Builder& b, float aspect, bool handheld) {
  Rng& r = b.rng;
  int style = pick(r, 0, ROOM_STYLES - 1);
  if (handheld && chance(r, .4f)) style = chance(r, .6f) ? OFFICE : KITCHEN;
  Room room = room_shell(b, style);
  furnish_walls(b, room, style, uniform(r, .6f, 1.f));
  furnish_middle(b, room, style);
  ceiling_things(b, room);
  if (style != CORRIDOR && room.wide > 3 && room.deep > 3 && chance(r, .15f)) partition(b, room);
  int n = pick(r, 0, style == STORAGE ? 20 : 9);
  Frame f = frame_at(0, 0, 0, 0);
  clutter(b, f, vec(0, 0, 0), room.wide, room.deep, n, .4f);
  if (handheld) handheld_camera(b, room, aspect);
  else room_camera(b, room, aspect);
}

// A table with things on it in a plainly furnished room.
DEVICE_CALL void tabletop(Builder& b, float aspect) {
  Rng& r = b.rng;
  Room room = room_shell(b, DINING);
  float height = chance(r, .12f) ? .004f : uniform(r, .4f, 1.f), wide = uniform(r, .6f, 2.2f), deep = uniform(r, .6f, 1.6f);
  Frame f = frame_at(uniform(r, -.25f, .25f) * room.wide, 0, uniform(r, -.25f, .25f) * room.deep, uniform(r, -.5f, .5f));
  table(b, f, wide, deep, height);
  if (chance(r, .3f)) box(b, f, material(b, FABRIC), vec(0, height, 0), vec(wide * uniform(r, .5f, 1.04f), .004f, deep * uniform(r, .5f, 1.04f)));
  float scale = uniform(r, .1f, .32f), spread = uniform(r, .3f, 1.f);
  int n = chance(r, .4f) ? pick(r, 2, 6) : pick(r, 5, 22);
  bool packages = chance(r, .2f), stack = chance(r, .3f);
  float top = height;
  Vec3 middle = vec(uniform(r, -.2f, .2f) * wide, height + .004f, uniform(r, -.2f, .2f) * deep);
  for (int i = 0; i < n && b.scene->primitive_count < ROOM_BUDGET; i++) {
    Vec3 at = middle + vec(normal(r) * .25f * wide * spread, 0, normal(r) * .25f * deep * spread);
    at.x = clamp(at.x, -wide * .48f, wide * .48f);
    at.z = clamp(at.z, -deep * .48f, deep * .48f);
    float s = scale * uniform(r, .5f, 1.3f);
    if (packages && stack && i < 4) {
      Vec3 pile = middle + vec(normal(r) * .02f, 0, normal(r) * .02f);
      pile.y = top;
      top += package(b, f, pile, s);
    } else if (packages) package(b, f, at, s);
    else small_thing(b, f, at, s);
  }
  if (chance(r, .3f)) computer(b, frame_in(f, normal(r) * .1f, 0, -deep * .1f, normal(r) * .3f), height);
  int boards = chance(r, .2f) ? pick(r, 1, 4) : 0;  // prints and boards that lean behind the things
  for (int i = 0; i < boards; i++) {
    float w = uniform(r, .3f, 1.f), h = uniform(r, .25f, .8f);
    Turn lean = {uniform(r, -.7f, .7f), uniform(r, -.5f, 0.f), normal(r) * .06f};
    add(b, f, BOX, material(b, chance(r, .6f) ? PICTURE : ANY), vec(uniform(r, -.4f, .4f) * wide, height + h * .48f, -deep * uniform(r, .1f, .5f)), vec(w * .5f, h * .5f, .01f), lean);
  }
  for (int i = 0; i < 3; i++) if (chance(r, .4f)) chair(b, frame_in(f, uniform(r, -.5f, .5f) * wide, 0, (i & 1 ? 1 : -1) * (deep * .5f + .35f), uniform(r, 0, TAU)));
  furnish_walls(b, room, pick(r, 0, STORAGE), .5f);
  b.scene->contact = uniform(r, .1f, .4f);
  Vec3 target = vec(f.x + f.cosine * middle.x + f.sine * middle.z, height + .06f, f.z - f.sine * middle.x + f.cosine * middle.z);
  tabletop_camera(b, room, target, aspect);
}
