// Furniture. A piece stands at its frame's origin; its front looks along the frame's +z.
#pragma once
#include "things.h"

DEVICE_CALL void four_legs(Builder& b, Frame f, int m, float wide, float deep, float height, float thick) {
  for (int i = 0; i < 4; i++) {
    float x = (i & 1 ? 1 : -1) * (wide * .5f - thick), z = (i & 2 ? 1 : -1) * (deep * .5f - thick);
    box(b, f, m, vec(x, 0, z), vec(thick, height, thick));
  }
}

DEVICE_CALL void table(Builder& b, Frame f, float wide, float deep, float height) {
  Rng& r = b.rng;
  int m = material(b, chance(r, .65f) ? TIMBER : chance(r, .5f) ? WHITE : ANY), base = chance(r, .5f) ? m : material(b, METAL);
  float top = uniform(r, .02f, .05f), leg = uniform(r, .03f, .07f), u = uniform(r);
  bool round = u > .85f && fabsf(wide - deep) < .5f;
  if (round) cylinder(b, f, m, vec(0, height - top, 0), wide * .5f, top);
  else box(b, f, m, vec(0, height - top, 0), vec(wide, top, deep));
  if (u < .55f) four_legs(b, f, base, wide, deep, height - top, leg);
  else if (round || u > .8f) {
    cylinder(b, f, base, vec(0, 0, 0), leg, height - top);
    cylinder(b, f, base, vec(0, 0, 0), fminf(wide, deep) * .3f, .03f);
  } else {
    box(b, f, base, vec(-wide * .5f + .04f, 0, 0), vec(.04f, height - top, deep * .9f));
    box(b, f, base, vec(wide * .5f - .22f, 0, 0), vec(.4f, height - top, deep * .85f));
  }
  note(b, f, height + .05f);
}

DEVICE_CALL void chair(Builder& b, Frame f) {
  Rng& r = b.rng;
  if (chance(r, .45f)) {
    Turn none = {0, 0, 0};
    if (mesh(b, f, PACK_SEAT, material(b, TIMBER), vec(0, 0, 0), 0, none)) return;
  }
  int m = material(b, chance(r, .5f) ? TIMBER : PLASTIC), seat = chance(r, .5f) ? m : material(b, FABRIC);
  float w = uniform(r, .38f, .52f), h = uniform(r, .4f, .5f), e = uniform(r, .018f, .04f), back = uniform(r, .35f, .6f);
  int style = pick(r, 0, 3);
  box(b, f, seat, vec(0, h - .04f, 0), vec(w, uniform(r, .025f, .09f), w));
  if (style == 3) {  // office chair
    int steel = material(b, METAL);
    cylinder(b, f, steel, vec(0, .08f, 0), .028f, h - .1f);
    for (int i = 0; i < 5; i++) {
      float a = i * TAU / 5;
      rod(b, f, steel, vec(0, .1f, 0), vec(cosf(a) * .3f, .06f, sinf(a) * .3f), .018f);
    }
    Turn lean = {0, -.12f, 0};
    add(b, f, BOX, seat, vec(0, h + .38f, -w * .5f), vec(w * .46f, .27f, .035f), lean);
    for (int i = -1; i < 2; i += 2) box(b, f, m, vec(i * w * .55f, h + .2f, 0), vec(.05f, .03f, .25f));
    return;
  }
  for (int i = 0; i < 4; i++) {
    float x = (i & 1 ? 1 : -1) * w * .44f, z = (i & 2 ? 1 : -1) * w * .44f;
    rod(b, f, m, vec(x, h, z), vec(x * 1.1f, 0, z * 1.12f), e * .6f);
  }
  if (style == 0) {
    box(b, f, seat, vec(0, h + .12f, -w * .46f), vec(w, back * .7f, .03f));
  } else {
    int bars = style == 1 ? 3 : 0;
    for (int i = 0; i < bars; i++) box(b, f, m, vec(0, h + back * (.3f + .3f * i), -w * .46f), vec(w * .9f, .05f, .02f));
    if (style == 2) for (int i = -2; i < 3; i++) rod(b, f, m, vec(i * w * .19f, h, -w * .44f), vec(i * w * .2f, h + back, -w * .5f), .009f);
    if (style == 2) box(b, f, m, vec(0, h + back, -w * .5f), vec(w, .05f, .025f));
  }
  for (int i = -1; i < 2; i += 2) rod(b, f, m, vec(i * w * .46f, h, -w * .46f), vec(i * w * .46f, h + back, -w * .48f), e * .6f);
}

DEVICE_CALL void sofa(Builder& b, Frame f, float wide) {
  Rng& r = b.rng;
  Turn none = {0, 0, 0};
  if (chance(r, .4f) && mesh(b, f, PACK_SOFA, material(b, FABRIC), vec(0, 0, 0), 0, none)) return;
  int m = material(b, chance(r, .45f) ? LEATHER : FABRIC);
  float d = uniform(r, .8f, 1.f), h = uniform(r, .28f, .36f), back = uniform(r, .7f, .95f), arm = uniform(r, .1f, .25f);
  box(b, f, m, vec(0, .08f, 0), vec(wide, h - .08f, d));
  box(b, f, m, vec(0, .08f, -d * .5f + .1f), vec(wide, back - .1f, .2f));
  for (int i = -1; i < 2; i += 2) {
    box(b, f, m, vec(i * (wide - arm) * .5f, .08f, 0), vec(arm, h + .15f, d));
    Turn along = {0, 1.5708f, 0};
    add(b, f, CYLINDER, m, vec(i * (wide - arm) * .5f, h + .23f, 0), vec(arm * .55f, d * .5f, arm * .5f), along);
  }
  int seats = wide > 1.8f ? 3 : wide > 1.2f ? 2 : 1;
  for (int i = 0; i < seats; i++) {
    float w = (wide - 2 * arm) / seats, x = (i + .5f - seats * .5f) * w;
    box(b, f, m, vec(x, h, .06f), vec(w * .97f, .14f, d * .75f));
    Turn lean = {0, -.2f, 0};
    add(b, f, BOX, m, vec(x, h + .35f, -d * .25f), vec(w * .48f, .22f, .09f), lean);
  }
  int n = pick(r, 0, 3);
  for (int i = 0; i < n; i++) {
    Turn leaning = {uniform(r, -.4f, .4f), -.35f, uniform(r, -.4f, .4f)};
    add(b, f, chance(r, .5f) ? BOX : ELLIPSOID, material(b, FABRIC), vec(uniform(r, -.35f, .35f) * wide, h + .32f, -d * .1f), vec(.21f, .19f, .07f), leaning);
  }
  note(b, f, .6f);
}

DEVICE_CALL void shelf(Builder& b, Frame f, float wide, float high, float deep) {
  Rng& r = b.rng;
  int m = material(b, chance(r, .6f) ? TIMBER : chance(r, .6f) ? WHITE : METAL);
  float t = .022f;
  bool open = chance(r, .3f);
  for (int i = -1; i < 2; i += 2) box(b, f, m, vec(i * wide * .5f, 0, 0), vec(t, high, open ? t : deep));
  if (!open) box(b, f, m, vec(0, 0, -deep * .5f), vec(wide, high, .01f));
  int n = pick(r, 2, 5);
  float step = high / n;
  for (int i = 0; i <= n; i++) {
    float y = fminf(i * step, high - t);
    box(b, f, m, vec(0, y, 0), vec(wide, t, deep));
    if (i == n) break;
    float u = uniform(r), row = wide * uniform(r, .3f, .95f);
    if (u < .5f) {
      box(b, f, material(b, BOOK_ROW), vec(uniform(r, -1, 1) * (wide - row) * .45f, y + t, -.02f), vec(row, step * uniform(r, .5f, .85f), deep * .7f));
      if (row < wide * .6f) small_thing(b, f, vec(wide * .35f * sign(r), y + t, 0), fminf(step * .8f, deep));
    } else {
      clutter(b, f, vec(0, y + t, 0), wide * .8f, deep * .4f, pick(r, 1, 4), fminf(step * .75f, deep));
    }
  }
  note(b, f, high * .6f);
}

DEVICE_CALL void door_fronts(Builder& b, Frame f, int m, int knob, float wide, float low, float high, float front) {
  int n = wide > 1.4f ? 3 : wide > .7f ? 2 : 1, rows = high - low < 1.f && chance(b.rng, .4f) ? 3 : 1;
  for (int i = 0; i < n; i++) {
    float w = wide / n, x = (i + .5f - n * .5f) * w;
    for (int j = 0; j < rows; j++) {
      float h = (high - low) / rows, y = low + j * h;
      box(b, f, m, vec(x, y + .01f, front), vec(w - .012f, h - .02f, .025f));
      if (rows > 1) rod(b, f, knob, vec(x - .06f, y + h * .6f, front + .03f), vec(x + .06f, y + h * .6f, front + .03f), .007f);
      else ball(b, f, knob, vec(x + w * .4f * (i & 1 ? -1 : 1), y + h * .5f, front + .03f), vec(.016f, .016f, .016f));
    }
  }
}

DEVICE_CALL void cabinet(Builder& b, Frame f, float wide, float high, float deep) {
  Rng& r = b.rng;
  int m = material(b, chance(r, .6f) ? TIMBER : WHITE), front = chance(r, .7f) ? m : material(b, chance(r, .5f) ? WHITE : TIMBER), knob = material(b, METAL);
  box(b, f, m, vec(0, .04f, 0), vec(wide, high - .04f, deep - .03f));
  door_fronts(b, f, front, knob, wide, .08f, high - .02f, deep * .5f - .01f);
  if (high < 1.5f) clutter(b, f, vec(0, high, 0), wide, deep, pick(r, 1, 5), .28f);
  note(b, f, fminf(high, 1.2f));
}

DEVICE_CALL void bed(Builder& b, Frame f) {
  Rng& r = b.rng;
  Turn none = {0, 0, 0};
  if (chance(r, .35f) && mesh(b, f, PACK_BED, material(b, TIMBER), vec(0, 0, 0), 0, none)) return;
  int m = material(b, TIMBER), cover = material(b, FABRIC), sheet = material(b, WHITE);
  float w = uniform(r, .9f, 1.8f), h = uniform(r, .28f, .45f);
  box(b, f, m, vec(0, .1f, 0), vec(w, h - .1f, 2.f));
  box(b, f, sheet, vec(0, h, 0), vec(w * .97f, .18f, 1.95f));
  box(b, f, cover, vec(0, h + .03f, .25f), vec(w * 1.03f, .19f, 1.5f));
  for (int i = 0; i < 4; i++) ball(b, f, cover, vec(normal(r) * w * .25f, h + .21f, uniform(r, -.3f, .8f)), vec(uniform(r, .15f, .5f), .05f, uniform(r, .1f, .4f)));
  box(b, f, m, vec(0, 0, -1.02f), vec(w, uniform(r, .7f, 1.2f), .06f));
  int n = w > 1.3f ? 2 : 1;
  for (int i = 0; i < n; i++) {
    Turn lean = {uniform(r, -.2f, .2f), .25f, 0};
    add(b, f, ELLIPSOID, sheet, vec((i + .5f - n * .5f) * w * .5f, h + .27f, -.72f), vec(.33f, .11f, .23f), lean);
  }
  note(b, f, .6f);
}

DEVICE_CALL void computer(Builder& b, Frame f, float height) {
  Rng& r = b.rng;
  int dark = material(b, chance(r, .7f) ? BLACK : METAL), screen = material(b, SCREEN);
  bool laptop = chance(r, .35f);
  float w = laptop ? .34f : uniform(r, .42f, .65f), h = w * .6f, y = height + (laptop ? .02f : .12f), z = uniform(r, -.15f, -.05f);
  if (screen == NO_MATERIAL) screen = dark;
  Turn lean = {uniform(r, -.25f, .25f), laptop ? -.3f : -.08f, 0};
  add(b, f, BOX, dark, vec(0, y + h * .5f, z), vec(w * .5f, h * .5f, laptop ? .006f : .022f), lean);
  add(b, f, BOX, screen, vec(0, y + h * .5f, z + (laptop ? .006f : .012f)), vec(w * .475f, h * .465f, laptop ? .004f : .016f), lean);
  if (laptop) {
    box(b, f, dark, vec(0, height, z + .16f), vec(w, .018f, .24f));
    box(b, f, material(b, KEYBOARD), vec(0, height + .018f, z + .13f), vec(w * .9f, .003f, .12f));
  } else {
    box(b, f, dark, vec(0, height, z), vec(.05f, .2f, .03f));
    box(b, f, dark, vec(0, height, z), vec(.24f, .012f, .18f));
    turned_box(b, f, material(b, KEYBOARD), vec(uniform(r, -.1f, .1f), height, z + .26f), vec(.44f, .022f, .14f), uniform(r, -.15f, .15f));
    ball(b, f, dark, vec(.3f, height + .012f, z + .28f), vec(.032f, .022f, .055f));
  }
  cable(b, f, vec(uniform(r, -.3f, .3f), height, z - .05f), .6f);
}

DEVICE_CALL void desk(Builder& b, Frame f, float wide, float deep) {
  Rng& r = b.rng;
  float h = uniform(r, .7f, .77f);
  table(b, f, wide, deep, h);
  int n = wide > 1.5f && chance(r, .4f) ? 2 : 1;
  for (int i = 0; i < n; i++)
    if (chance(r, .8f)) computer(b, frame_in(f, (i + .5f - n * .5f) * .75f + uniform(r, -.15f, .15f), 0, -deep * .12f, uniform(r, -.2f, .2f)), h);
  clutter(b, f, vec(0, h, 0), wide, deep, pick(r, 3, 11), .22f);
  papers(b, f, vec(uniform(r, -.3f, .3f) * wide, h, .1f), .5f);
  if (chance(r, .4f)) table_lamp(b, f, vec(wide * .4f * sign(r), h, -deep * .3f), .5f);
  if (chance(r, .25f)) {
    int m = material(b, FABRIC);
    box(b, f, m, vec(0, h, -deep * .5f), vec(wide, uniform(r, .3f, .7f), .03f));
    for (int i = 0; i < 4; i++) box(b, f, material(b, PAPER), vec(uniform(r, -.45f, .45f) * wide, h + uniform(r, .05f, .3f), -deep * .5f + .017f), vec(.15f, .2f, .004f));
  }
  if (chance(r, .75f)) chair(b, frame_in(f, uniform(r, -.3f, .3f), 0, deep * .5f + uniform(r, .1f, .5f), PI + normal(r) * .5f));
  if (chance(r, .4f)) box(b, f, material(b, BLACK), vec(wide * .35f, 0, 0), vec(.2f, .45f, .45f));
}

// A counter with doors, things on top, a sink or a stove, cupboards above.
DEVICE_CALL void kitchen_run(Builder& b, Frame f, float wide, bool cupboards) {
  Rng& r = b.rng;
  bool lacquered = chance(r, .3f);
  int body = material(b, lacquered ? CAR_PAINT : chance(r, .5f) ? WHITE : TIMBER), top = material(b, chance(r, .5f) ? STONE : TIMBER), knob = material(b, METAL), tile = material(b, WALL);
  float d = .6f, h = .9f;
  b.materials[top].bump = 0;
  if (lacquered) b.materials[body].reflect = uniform(r, 0, .5f);
  box(b, f, body, vec(0, .08f, -.02f), vec(wide, h - .12f, d - .06f));
  door_fronts(b, f, body, knob, wide, .1f, h - .05f, d * .5f - .04f);
  box(b, f, top, vec(0, h - .04f, 0), vec(wide, .04f, d + .02f));
  if (chance(r, .6f)) box(b, f, tile, vec(0, h, -d * .5f), vec(wide, .5f, .012f));
  if (chance(r, .6f)) {
    float x = uniform(r, -.3f, .3f) * wide;
    box(b, f, material(b, chance(r, .5f) ? METAL : BLACK), vec(x, h - .02f, 0), vec(.55f, .026f, .45f));
    rod(b, f, knob, vec(x, h, -.2f), vec(x, h + .25f, -.2f), .012f);
    rod(b, f, knob, vec(x, h + .25f, -.2f), vec(x, h + .22f, -.02f), .012f);
  }
  clutter(b, f, vec(0, h, -.03f), wide, d * .8f, (int)(wide * uniform(r, 2, 6)), .3f);
  if (mesh(b, f, PACK_KITCHEN, knob, vec(uniform(r, -.3f, .3f) * wide, h, -.05f), uniform(r, .2f, .35f))) note(b, f, h);
  if (cupboards) {
    float low = uniform(r, 1.35f, 1.5f), high = uniform(r, .5f, .8f);
    box(b, f, body, vec(0, low, -d * .5f + .16f), vec(wide, high, .32f));
    door_fronts(b, frame_in(f, 0, 0, -d * .5f + .32f, 0), body, knob, wide, low, low + high, 0);
  }
  note(b, f, h + .1f);
  note(b, frame_in(f, wide * .3f, 0, 0, 0), h);
}

DEVICE_CALL void fridge(Builder& b, Frame f, float wide, float high) {
  Rng& r = b.rng;
  int m = material(b, chance(r, .6f) ? WHITE : METAL), grip = material(b, METAL);
  box(b, f, m, vec(0, .03f, 0), vec(wide, high, .6f));
  float split = high > 1.2f ? high * uniform(r, .35f, .65f) : high * .85f;
  box(b, f, material(b, BLACK), vec(0, split, .295f), vec(wide, .012f, .02f));
  for (int i = -1; i < 2; i += 2) rod(b, f, grip, vec(-wide * .4f, split + i * .08f, .33f), vec(-wide * .4f, split + i * .35f * fminf(high, 1.f), .33f), .012f);
  if (high < 1.2f) clutter(b, f, vec(0, high + .03f, 0), wide, .5f, pick(r, 1, 3), .3f);
  else for (int i = 0; i < 4; i++) box(b, f, material(b, PAPER), vec(normal(r) * .15f, high * uniform(r, .5f, .85f), .305f), vec(.1f, .14f, .004f));
}

DEVICE_CALL void floor_lamp(Builder& b, Frame f) {
  Rng& r = b.rng;
  Turn none = {0, 0, 0};
  if (chance(r, .4f) && mesh(b, f, PACK_LAMP, material(b, METAL), vec(0, 0, 0), uniform(r, 1.2f, 1.8f), none)) return;
  int m = material(b, METAL), glow = material(b, GLOW);
  float h = uniform(r, 1.2f, 1.7f);
  cylinder(b, f, m, vec(0, 0, 0), .14f, .025f);
  cylinder(b, f, m, vec(0, 0, 0), .013f, h);
  if (!mesh(b, f, LAMPSHADE, glow, vec(0, h - .15f, 0), .32f)) add(b, f, CONE, glow, vec(0, h, 0), vec(.22f, .17f, .22f));
}

DEVICE_CALL void staircase(Builder& b, Frame f, float wide, int steps) {
  int m = material(b, chance(b.rng, .6f) ? TIMBER : STONE), rail = material(b, TIMBER);
  bool solid = chance(b.rng, .6f);
  for (int i = 0; i < steps; i++) {
    float y = .18f * (i + 1);
    if (solid) box(b, f, m, vec(0, 0, -.26f * i), vec(wide, y, .28f));
    else box(b, f, m, vec(0, y - .05f, -.26f * i), vec(wide, .05f, .28f));
    if (i % 2 == 0) rod(b, f, rail, vec(-wide * .48f, y, -.26f * i), vec(-wide * .48f, y + .9f, -.26f * i), .013f);
  }
  rod(b, f, rail, vec(-wide * .48f, 1.08f, 0), vec(-wide * .48f, .18f * steps + .9f, -.26f * (steps - 1)), .025f);
}

// Boxes, tools and furniture pushed together: basements, garages, store rooms.
DEVICE_CALL void storage_pile(Builder& b, Frame f, float wide, float deep) {
  Rng& r = b.rng;
  int n = pick(r, 3, 9), card = material(b, TIMBER);
  b.materials[card].pattern = PLAIN;
  for (int i = 0; i < n; i++) {
    Vec3 at = vec(uniform(r, -.45f, .45f) * wide, 0, uniform(r, -.4f, .4f) * deep);
    float s = uniform(r, .25f, .6f);
    int layers = pick(r, 1, 3);
    for (int j = 0; j < layers; j++) {
      float h = s * uniform(r, .4f, .8f);
      turned_box(b, f, chance(r, .6f) ? card : material(b, PACKAGE), at, vec(s, h, s * .8f), uniform(r, -.3f, .3f));
      at.y += h;
    }
    if (chance(r, .5f)) small_thing(b, f, at, .3f);
  }
  rod(b, f, card, vec(-wide * .3f, 0, deep * .2f), vec(-wide * .25f, 1.6f, -deep * .5f), .02f);
  note(b, f, .6f);
}
