// Things that lie, stand and walk around: clutter, packages, plants, people, animals.
#pragma once
#include "grammar.h"

DEVICE_CALL void mug(Builder& b, Frame f, Vec3 at, float s) {
  int m = material(b, CERAMIC);
  float h = s * uniform(b.rng, 0.35f, 0.5f);
  if (!mesh(b, f, CUP, m, at, h)) cylinder(b, f, m, at, s * 0.18f, h);
}

DEVICE_CALL void bottle(Builder& b, Frame f, Vec3 at, float s) {
  int m = material(b, chance(b.rng, 0.4f) ? DARK_GLASS : chance(b.rng, 0.5f) ? PLASTIC : PACKAGE);
  float h = s * uniform(b.rng, 0.6f, 1.1f), r = h * uniform(b.rng, .12f, .18f);
  bool lying = chance(b.rng, 0.12f);
  Turn turn = {uniform(b.rng, 0, TAU), lying ? 1.5708f : 0.f, 0};
  Primitive* p = mesh(b, f, BOTTLE, m, lying ? at + vec(0, r - h * 0.5f, 0) : at, h, turn);
  if (p) return;
  cylinder(b, f, m, at, r, h * 0.65f);
  ball(b, f, m, at + vec(0, h * 0.65f, 0), vec(r, r * 0.8f, r));
  cylinder(b, f, m, at + vec(0, h * 0.65f, 0), r * 0.35f, h * 0.35f);
}

// Cereal boxes and cartons: upright, or fallen on a side, alone or stacked.
DEVICE_CALL float package(Builder& b, Frame f, Vec3 at, float s) {
  Rng& r = b.rng;
  float x = s * uniform(r, .3f, .9f), y = s * uniform(r, .4f, 1.f), z = s * uniform(r, .1f, .4f);
  if (chance(r, 0.45f)) {
    float t = y;
    y = z;
    z = t;
  }
  turned_box(b, f, material(b, PACKAGE), at, vec(x, y, z), uniform(r, 0, TAU));
  return y;
}

DEVICE_CALL void book_stack(Builder& b, Frame f, Vec3 at, float s) {
  Rng& r = b.rng;
  float yaw = uniform(r, 0, TAU);
  int n = pick(r, 1, 4);
  for (int i = 0; i < n; i++) {
    float h = s * uniform(r, .04f, .14f), w = s * uniform(r, .6f, .95f), d = s * uniform(r, .5f, .7f);
    turned_box(b, f, material(b, chance(r, 0.6f) ? PACKAGE : PLASTIC), at, vec(w, h, d), yaw);
    if (h > 0.015f) turned_box(b, f, material(b, PAPER), at + vec(0, h * 0.12f, 0), vec(w * 1.004f, h * 0.76f, d * 0.97f), yaw);
    at.y += h;
    yaw += uniform(r, -.25f, .25f);
  }
}

DEVICE_CALL void pot_plant(Builder& b, Frame f, Vec3 at, float s) {
  Rng& r = b.rng;
  float pot = s * uniform(r, .2f, .35f);
  int leaf = material(b, LEAF), clay = material(b, CERAMIC);
  if (leaf != NO_MATERIAL) b.materials[leaf].cut = 0;
  cylinder(b, f, clay, at, pot * .5f, pot * .9f);
  if (!mesh(b, f, HOUSEPLANT, leaf, at + vec(0, pot * .85f, 0), s * uniform(r, .6f, 1.2f)))
    for (int i = 0; i < 4; i++)
      ball(b, f, leaf, at + vec(normal(r) * .15f * s, pot + s * uniform(r, .2f, .6f), normal(r) * .15f * s), vec(1, 1, 1) * s * uniform(r, .1f, .2f));
}

DEVICE_CALL void papers(Builder& b, Frame f, Vec3 at, float s) {
  int n = pick(b.rng, 1, 4);
  for (int i = 0; i < n; i++)
    turned_box(b, f, material(b, PAPER), at + vec(normal(b.rng) * s * .3f, i * 0.0012f, normal(b.rng) * s * .3f),
               vec(.21f, .0012f, .297f), uniform(b.rng, 0, TAU));
}

DEVICE_CALL void plate(Builder& b, Frame f, Vec3 at, float s) {
  int m = material(b, CERAMIC);
  float h = s * uniform(b.rng, .1f, .4f);
  if (!mesh(b, f, BOWL, m, at, h)) ball(b, f, m, at + vec(0, h * .5f, 0), vec(s * .4f, h * .5f, s * .4f));
  int n = pick(b.rng, 0, 4);
  for (int i = 0; i < n; i++) {
    float q = s * uniform(b.rng, .08f, .16f);
    Vec3 p = at + vec(normal(b.rng) * s * .12f, h * .5f, normal(b.rng) * s * .12f);
    int food = material(b, ANY);
    if (!mesh(b, f, FRUIT, food, p, q * 2)) ball(b, f, food, p + vec(0, q, 0), vec(q, q, q));
  }
}

DEVICE_CALL void pencil_pot(Builder& b, Frame f, Vec3 at, float s) {
  float h = s * .35f, r = s * .13f;
  cylinder(b, f, material(b, PLASTIC), at, r, h);
  for (int i = 0; i < 5; i++) {
    Vec3 tip = at + vec(normal(b.rng) * r * .9f, h * uniform(b.rng, 1.4f, 2.f), normal(b.rng) * r * .9f);
    rod(b, f, material(b, PLASTIC), at + vec(0, h * .5f, 0), tip, 0.004f);
  }
}

DEVICE_CALL void basket(Builder& b, Frame f, Vec3 at, float s) {
  int m = material(b, chance(b.rng, 0.5f) ? PLASTIC : TIMBER);
  Frame g = frame_in(f, at.x, at.y, at.z, uniform(b.rng, 0, TAU));
  float x = s * uniform(b.rng, .5f, 1.f), y = s * uniform(b.rng, .3f, .6f), z = s * uniform(b.rng, .4f, .7f), t = 0.012f;
  box(b, g, m, vec(0, 0, 0), vec(x, t, z));
  for (int i = -1; i < 2; i += 2) {
    box(b, g, m, vec(i * x * .5f, 0, 0), vec(t, y, z));
    box(b, g, m, vec(0, 0, i * z * .5f), vec(x, y, t));
  }
  for (int i = 0; i < 3; i++)
    ball(b, g, material(b, ANY), vec(normal(b.rng) * x * .2f, y * .7f, normal(b.rng) * z * .2f), vec(x, y, z) * uniform(b.rng, .12f, .25f));
}

DEVICE_CALL void cable(Builder& b, Frame f, Vec3 at, float s) {
  int m = material(b, chance(b.rng, .6f) ? BLACK : WHITE);
  mesh(b, f, CABLE, m, at, s * 0.05f);
}

DEVICE_CALL void table_lamp(Builder& b, Frame f, Vec3 at, float s) {
  int m = material(b, METAL), glow = material(b, chance(b.rng, .5f) ? GLOW : FABRIC);
  cylinder(b, f, m, at, s * .2f, .02f);
  cylinder(b, f, m, at, .01f, s * .7f);
  if (!mesh(b, f, LAMPSHADE, glow, at + vec(0, s * .6f, 0), s * .35f))
    add(b, f, CONE, glow, at + vec(0, s * .75f, 0), vec(s * .25f, s * .2f, s * .25f));
}

// One thing about s metres large, standing on at.y.
DEVICE_CALL void small_thing(Builder& b, Frame f, Vec3 at, float s) {
  Rng& r = b.rng;
  int m;
  float q;
  switch (pick(r, 0, 19)) {
    case 0: case 1: package(b, f, at, s); return;
    case 2: mug(b, f, at, fminf(s, .3f)); return;
    case 3: bottle(b, f, at, s); return;
    case 4: book_stack(b, f, at, fminf(s, .35f)); return;
    case 5: pot_plant(b, f, at, s); return;
    case 6: plate(b, f, at, fminf(s, .35f)); return;
    case 7: pencil_pot(b, f, at, fminf(s, .3f)); return;
    case 8: basket(b, f, at, s); return;
    case 9:
      m = material(b, chance(r, .5f) ? CERAMIC : ANY);
      if (!mesh(b, f, VASE, m, at, s)) ball(b, f, m, at + vec(0, s * .4f, 0), vec(s * .25f, s * .4f, s * .25f));
      return;
    case 10:
      if (mesh(b, f, CLOTH, material(b, FABRIC), at, s * uniform(r, .15f, .4f))) return;
    case 11: case 12: case 13:
      if (s > .15f && mesh(b, f, PACK_SMALL, material(b, PLASTIC), at, s * uniform(r, .4f, 1.f))) return;
      if (mesh(b, f, TOY, material(b, PLASTIC), at, s * uniform(r, .3f, .8f))) return;
    case 14: cable(b, f, at, s); return;
    case 15: cylinder(b, f, material(b, PACKAGE), at, s * uniform(r, .12f, .35f), s * uniform(r, .2f, .9f)); return;
    case 16: papers(b, f, at, s); return;
    case 17:
      q = s * uniform(r, .12f, .3f);
      m = material(b, ANY);
      if (!mesh(b, f, FRUIT, m, at, q * 2)) ball(b, f, m, at + vec(0, q, 0), vec(q, q, q));
      return;
    case 18:
      turned_box(b, f, material(b, PLASTIC), at, vec(s * uniform(r, .2f, 1), s * uniform(r, .04f, .3f), s * uniform(r, .2f, .7f)), uniform(r, 0, TAU));
      return;
    default:
      m = material(b, ANY);
      turned_box(b, f, m, at, vec(s * uniform(r, .3f, 1), s * uniform(r, .2f, 1), s * uniform(r, .3f, 1)), uniform(r, 0, TAU));
  }
}

// Things strewn over a horizontal rectangle.
DEVICE_CALL void clutter(Builder& b, Frame f, Vec3 center, float wide, float deep, int count, float size) {
  for (int i = 0; i < count; i++) {
    Vec3 at = center + vec(uniform(b.rng, -.48f, .48f) * wide, 0, uniform(b.rng, -.46f, .46f) * deep);
    small_thing(b, f, at, size * log_uniform(b.rng, .4f, 1.3f));
  }
}

// Limbs are rods between joints, with round ends.
DEVICE_CALL void limb(Builder& b, Frame f, int m, Vec3 from, Vec3 to, float radius) {
  rod(b, f, m, from, to, radius);
  ball(b, f, m, to, vec(radius, radius, radius) * 1.05f);
}

DEVICE_CALL void head(Builder& b, Frame f, Vec3 neck, float s, int skin) {
  Rng& r = b.rng;
  int hair = material(b, HAIR), dark = material(b, BLACK);
  cylinder(b, f, skin, neck - vec(0, .03f, 0) * s, .055f * s, .1f * s);
  Vec3 c = neck + vec(0, .15f, .01f) * s;
  ball(b, f, skin, c, vec(.078f, .118f, .098f) * s);
  ball(b, f, hair, c + vec(0, .035f, -.025f) * s, vec(.088f, .1f, .1f) * s);
  if (chance(r, .35f)) ball(b, f, hair, c + vec(0, -.07f, -.06f) * s, vec(.09f, .16f, .07f) * s);
  ball(b, f, skin, c + vec(0, -.02f, .1f) * s, vec(.014f, .03f, .018f) * s);
  for (int i = -1; i < 2; i += 2) {
    ball(b, f, dark, c + vec(i * .03f, .015f, .083f) * s, vec(.014f, .008f, .012f) * s);
    ball(b, f, skin, c + vec(i * .079f, 0, 0) * s, vec(.014f, .03f, .02f) * s);
  }
  if (chance(r, .2f)) {
    int hat = material(b, FABRIC);
    cylinder(b, f, hat, c + vec(0, .06f, -.01f) * s, .1f * s, .09f * s);
    if (chance(r, .5f)) cylinder(b, f, hat, c + vec(0, .06f, 0) * s, .16f * s, .012f * s);
  }
}

// A body of capsules. `sitting` puts the hips at 0.45 m and bends the legs.
DEVICE_CALL void person(Builder& b, Frame f, float height, bool sitting) {
  Rng& r = b.rng;
  Turn none = {0, 0, 0};
  if (!sitting && chance(r, .35f) && mesh(b, f, PACK_PERSON, material(b, FABRIC), vec(0, 0, 0), 0, none)) return;
  float s = height / 1.75f, wide = uniform(r, .85f, 1.2f);
  int skin = material(b, SKIN), shirt = material(b, FABRIC), trousers = material(b, FABRIC), shoe = material(b, BLACK);
  float hip = sitting ? .48f : .92f, stride = sitting ? 0.f : uniform(r, -.25f, .25f);
  bool skirt = chance(r, .12f);
  for (int i = -1; i < 2; i += 2) {
    Vec3 top = vec(i * .095f, hip, 0) * s, knee = vec(i * .1f, hip - .42f, .06f + i * stride * .6f) * s, foot = vec(i * .1f, .06f, i * stride) * s;
    if (sitting) knee = vec(i * .12f, hip, .42f) * s, foot = vec(i * .12f, .06f, .45f) * s;
    limb(b, f, trousers, top, knee, .08f * s * wide);
    limb(b, f, skirt ? skin : trousers, knee, foot, .055f * s * wide);
    ball(b, f, shoe, foot + vec(0, -.02f, .05f) * s, vec(.045f, .04f, .13f) * s);
    Vec3 shoulder = vec(i * .19f * wide, hip + .5f, 0) * s;
    Vec3 elbow = shoulder + vec(i * uniform(r, .03f, .14f), uniform(r, -.3f, -.2f), uniform(r, -.08f, .12f)) * s;
    Vec3 hand = elbow + vec(i * uniform(r, -.12f, .06f), uniform(r, -.26f, .12f), uniform(r, .04f, .22f)) * s;
    limb(b, f, shirt, shoulder, elbow, .05f * s);
    limb(b, f, chance(r, .6f) ? shirt : skin, elbow, hand, .038f * s);
    ball(b, f, skin, hand, vec(.045f, .055f, .045f) * s);
    ball(b, f, shirt, shoulder, vec(.068f, .07f, .07f) * s);
  }
  if (skirt) add(b, f, CONE, trousers, vec(0, hip - .1f, 0) * s, vec(.24f, .45f, .2f) * s);
  ball(b, f, shirt, vec(0, hip + .33f, 0) * s, vec(.2f * wide, .26f, .125f * wide) * s);
  ball(b, f, shirt, vec(0, hip + .1f, 0) * s, vec(.17f * wide, .2f, .13f * wide) * s);
  ball(b, f, trousers, vec(0, hip, 0) * s, vec(.165f * wide, .12f, .135f * wide) * s);
  head(b, frame_in(f, 0, 0, 0, uniform(r, -.5f, .5f)), vec(0, hip + .55f, 0) * s, s, skin);
  if (chance(r, .2f)) turned_box(b, f, material(b, FABRIC), vec(0, hip + .1f, -.2f) * s, vec(.32f, .42f, .16f) * s, 0);
}

// Four legs, a trunk, a neck: dogs, cats, sheep, horses by size and proportion.
DEVICE_CALL void animal(Builder& b, Frame f, float s) {
  Rng& r = b.rng;
  int fur = material(b, HAIR), dark = material(b, BLACK);
  if (chance(r, .5f)) store(b.materials[fur].a, hsv(.08f, uniform(r, 0, .5f), uniform(r, .1f, .8f)));
  float leg = s * uniform(r, .3f, .55f), longness = s * uniform(r, .4f, .65f), fat = s * uniform(r, .15f, .28f), y = leg + fat * .5f;
  ball(b, f, fur, vec(0, y, 0), vec(fat, fat * 1.1f, longness));
  for (int i = 0; i < 4; i++) {
    float x = (i & 1 ? 1 : -1) * fat * .6f, z = (i & 2 ? 1 : -1) * longness * .7f;
    limb(b, f, fur, vec(x, y, z), vec(x, .02f * s, z + uniform(r, -.1f, .1f) * s), .055f * s);
  }
  Vec3 skull = vec(0, y + s * uniform(r, .1f, .4f), longness + s * uniform(r, .05f, .25f));
  rod(b, f, fur, vec(0, y, longness * .7f), skull, fat * .5f);
  ball(b, f, fur, skull, vec(.11f, .12f, .15f) * s);
  ball(b, f, fur, skull + vec(0, -.04f, .14f) * s, vec(.055f, .05f, .11f) * s);
  ball(b, f, dark, skull + vec(0, -.02f, .24f) * s, vec(.02f, .018f, .018f) * s);
  for (int i = -1; i < 2; i += 2) {
    ball(b, f, dark, skull + vec(i * .06f, .03f, .11f) * s, vec(.016f, .016f, .016f) * s);
    add(b, f, CONE, fur, skull + vec(i * .07f, .13f, -.02f) * s, vec(.04f, .08f, .02f) * s);
  }
  rod(b, f, fur, vec(0, y, -longness * .9f), vec(normal(r) * .1f * s, y + s * uniform(r, -.2f, .3f), -longness * 1.4f), .03f * s);
}

DEVICE_CALL void tree(Builder& b, Frame f, float height, int leaf, int bark) {
  Rng& r = b.rng;
  float trunk = height * uniform(r, .012f, .03f);
  float u = uniform(r);
  if (u < .08f && mesh(b, f, BARE_TREE, bark, vec(0, -.1f, 0), height)) return;
  if (u < .28f) {
    rod(b, f, bark, vec(0, -.3f, 0), vec(0, height * .9f, 0), trunk * .7f);
    if (mesh(b, f, CONIFER, leaf, vec(0, height * uniform(r, .05f, .3f), 0), height * .9f)) return;
    for (int i = 0; i < 3; i++) add(b, f, CONE, leaf, vec(0, height * (.35f + .2f * i), 0), vec(.22f - .05f * i, .2f, .22f - .05f * i) * height);
    return;
  }
  Vec3 fork = vec(normal(r) * .04f, uniform(r, .25f, .5f), normal(r) * .04f) * height;
  rod(b, f, bark, vec(0, -.3f, 0), fork, trunk);
  int n = pick(r, 2, 4);
  for (int i = 0; i < n; i++) {
    Vec3 tip = fork + vec(normal(r) * .12f, uniform(r, .12f, .3f), normal(r) * .12f) * height;
    rod(b, f, bark, fork, tip, trunk * .5f);
    float size = height * uniform(r, .35f, .6f);
    if (!mesh(b, f, CROWN, leaf, tip - vec(0, size * .5f, 0), size)) ball(b, f, leaf, tip, gray(size * .45f));
  }
}

DEVICE_CALL void bush(Builder& b, Frame f, Vec3 at, float s, int leaf) {
  if (!mesh(b, f, BUSH, leaf, at, s)) ball(b, f, leaf, at + vec(0, s * .4f, 0), vec(s * .6f, s * .5f, s * .6f));
}
DEVICE_CALL void rock(Builder& b, Frame f, Vec3 at, float s, int stone) {
  if (!mesh(b, f, ROCK, stone, at - vec(0, s * .2f, 0), s)) ball(b, f, stone, at + vec(0, s * .3f, 0), vec(s * .6f, s * .5f, s * .6f));
}
