// The hands that build a scene, and the materials they mix.
#pragma once
#include "light.h"


// Must match MESH_GROUPS in meshes.py. A group may be empty when the asset pack is absent.
enum MeshGroup {
  BOTTLE, CUP, BOWL, VASE, LAMPSHADE, ROCK, CROWN, CONIFER, BUSH, HOUSEPLANT, TUFT, BARE_TREE, CABLE, CLOTH, FRUIT,
  TOY, PACK_SEAT, PACK_TABLE, PACK_SOFA, PACK_BED, PACK_STORAGE, PACK_LAMP, PACK_PLANT, PACK_KITCHEN, PACK_BATH,
  PACK_DEVICE, PACK_SMALL, PACK_LARGE, PACK_PERSON, PACK_VEHICLE, PACK_OUTDOOR, MESH_GROUP_COUNT
};

#define MAX_INTEREST 24

struct Builder {
  Scene* scene;
  Primitive* primitives;
  Material* materials;
  Rng rng;
  Library library;
  // Points worth looking at, where hand-held cameras aim.
  Vec3 interest[MAX_INTEREST];
  int interest_count;
};

DEVICE_CALL Vec3 hsv(float hue, float saturation, float value) {
  Vec3 c = vec(saturate(fabsf(hue * 6 - 3) - 1), saturate(2 - fabsf(hue * 6 - 2)), saturate(2 - fabsf(hue * 6 - 4)));
  return mix(gray(1.f), c, saturation) * value;
}

enum Kind {
  ANY, WALL, TIMBER, FABRIC, CEILING, FLOOR, LEAF, BARK, HOUSE_FRONT, ROAD, CAR_PAINT, DARK_GLASS, GLOW, SKIN, MEADOW,
  STONE, BOOK_ROW, PICTURE, METAL, WHITE, FENCE, PACKAGE, PAPER, KEYBOARD, SCREEN, LEATHER, PLASTIC, BRIGHT_WINDOW,
  CERAMIC, HAIR, BLACK, KIND_COUNT
};

// Colours of made things: mostly muted, often warm.
DEVICE_CALL Vec3 made_color(Rng& r) {
  float u = uniform(r), v = uniform(r, 0.15f, 0.95f), hue = uniform(r);
  if (chance(r, 0.4f)) hue = uniform(r, 0.02f, 0.13f);
  return hsv(hue, u * u * 0.85f, v * v * 0.9f + 0.01f);
}

DEVICE_CALL Vec3 grayish(Rng& r, float low, float high, float warmth) {
  float g = uniform(r, low, high);
  return vec(g, g * uniform(r, 1 - 0.4f * warmth, 1.f), g * uniform(r, 1 - warmth, 1.f));
}

DEVICE_CALL void mix_building_material(Builder& b, int kind, Material& m, Vec3& a, Vec3& c) {
  Rng& r = b.rng;
  float u = uniform(r);
  switch (kind) {
    case WALL:
      a = hsv(uniform(r, 0.02f, 0.65f), uniform(r, 0, 0.22f), uniform(r, 0.25f, 0.9f));
      if (chance(r, 0.4f)) a = grayish(r, 0.45f, 0.85f, 0.15f);
      c = a * uniform(r, 0.85f, 1.1f);
      m.pattern = u < 0.65f ? (chance(r, 0.4f) ? CLOUDY : PLAIN) : u < 0.72f ? BRICKS : u < 0.8f ? TILES : u < 0.86f ? STRIPES : u < 0.93f ? PLANKS : WEAVE;
      m.scale = m.pattern == BRICKS ? uniform(r, 2, 5) : m.pattern == TILES ? log_uniform(r, 2, 8) : log_uniform(r, 0.5f, 3.f);
      if (chance(r, 0.3f)) m.photo = uniform(r, 0.1f, 0.5f);
      else if (chance(r, 0.06f)) m.photo = 2;
      m.specular *= 0.2f;
      break;
    case CEILING:
      a = grayish(r, 0.45f, 0.9f, 0.08f);
      c = a * 0.85f;
      m.pattern = u < 0.6f ? PLAIN : u < 0.85f ? TILES : PLANKS;
      m.scale = uniform(r, 1, 2.5f);
      m.specular = 0;
      m.seed &= ~28u;
      break;
    case FLOOR:
      if (u < 0.45f) {
        a = hsv(uniform(r, 0.03f, 0.12f), uniform(r, 0.2f, 0.7f), log_uniform(r, 0.06f, 0.55f));
        c = a * uniform(r, 0.5f, 0.95f);
        m.pattern = PLANKS;
        m.scale = uniform(r, 0.7f, 2.f);
      } else if (u < 0.65f) {
        m.pattern = TILES;
        m.scale = log_uniform(r, 1, 5);
        a = grayish(r, 0.15f, 0.8f, 0.3f);
      } else if (u < 0.9f) {
        m.pattern = u < 0.75f ? SPECKLES : u < 0.82f ? WEAVE : CLOUDY;
        m.scale = log_uniform(r, 1, 20);
        a = hsv(uniform(r), uniform(r, 0, 0.4f), uniform(r, 0.05f, 0.5f));
        c = a * uniform(r, 0.6f, 1.2f);
        m.bump = uniform(r, 0, 0.5f);
      } else {
        m.pattern = STRIPES;
      }
      if (chance(r, 0.35f)) m.photo = uniform(r, 0.3f, 1.f);
      else if (chance(r, 0.1f)) m.photo = 2;
      if (chance(r, 0.35f)) m.reflect = uniform(r, 0.1f, 0.7f);
      break;
    case HOUSE_FRONT:
      a = hsv(uniform(r, 0.02f, 0.15f), uniform(r, 0, 0.5f), uniform(r, 0.12f, 0.75f));
      if (chance(r, 0.2f)) a = made_color(r);
      c = hsv(uniform(r, 0.5f, 0.65f), uniform(r, 0, 0.4f), uniform(r, 0.03f, 0.3f));
      m.pattern = u < 0.75f ? FACADE : u < 0.87f ? BRICKS : PLANKS;
      m.scale = m.pattern == FACADE ? uniform(r, 0.6f, 1.3f) : uniform(r, 1, 4);
      m.bump = 0;
      m.specular = 0.03f;
      if (chance(r, 0.35f)) m.photo = uniform(r, 0.2f, 0.8f);
      break;
    case ROAD:
      a = grayish(r, 0.06f, 0.33f, 0.1f);
      c = a * uniform(r, 0.6f, 1.2f);
      m.pattern = u < 0.55f ? CLOUDY : u < 0.75f ? SPECKLES : u < 0.9f ? TILES : BRICKS;
      m.scale = m.pattern == CLOUDY ? log_uniform(r, 0.3f, 3) : log_uniform(r, 1, 5);
      m.seed &= ~28u;
      m.specular *= 0.2f;
      m.bump = 0;
      if (chance(r, 0.4f)) m.photo = uniform(r, 0.2f, 0.8f);
      if (chance(r, 0.12f)) m.reflect = uniform(r, 0.2f, 0.8f);
      break;
    case FENCE:
      m.cut = chance(r, 0.6f) ? 2 : 3;
      m.cut_threshold = m.cut == 2 ? uniform(r, 0.15f, 0.7f) : uniform(r, 0.05f, 0.2f);
      m.scale = m.cut == 2 ? uniform(r, 3, 12) : uniform(r, 5, 14);
      m.pattern = PLAIN;
      m.bump = 0;
      break;
  }
}

DEVICE_CALL void mix_natural_material(Builder& b, int kind, Material& m, Vec3& a, Vec3& c) {
  Rng& r = b.rng;
  float u = uniform(r);
  m.specular = 0.01f;
  switch (kind) {
    case TIMBER:
      a = hsv(uniform(r, 0.03f, 0.12f), uniform(r, 0.2f, 0.75f), log_uniform(r, 0.08f, 0.7f));
      c = a * uniform(r, 0.5f, 0.95f);
      m.pattern = u < 0.65f ? WOOD : u < 0.8f ? PLANKS : PLAIN;
      m.scale = log_uniform(r, 0.8f, 4);
      m.specular = uniform(r, 0, 0.25f);
      m.bump = 0;
      if (chance(r, 0.25f)) m.photo = uniform(r, 0.2f, 0.7f);
      if (chance(r, 0.2f)) m.reflect = 0.5f;
      break;
    case LEAF:
      a = hsv(uniform(r, 0.17f, 0.36f), uniform(r, 0.3f, 0.8f), log_uniform(r, 0.05f, 0.35f));
      if (u < 0.1f) a = hsv(uniform(r, 0, 0.14f), 0.7f, uniform(r, 0.2f, 0.5f));
      c = a * uniform(r, 0.4f, 0.9f);
      m.pattern = CLOUDY;
      m.scale = log_uniform(r, 3.f, 16.f);
      m.bump = 1;
      m.specular = 0.03f;
      m.cut = 1;
      m.cut_threshold = uniform(r, 0.3f, 0.5f);
      break;
    case BARK:
      a = hsv(uniform(r, 0.03f, 0.1f), uniform(r, 0.1f, 0.5f), uniform(r, 0.05f, 0.3f));
      c = a * 0.5f;
      m.pattern = u < 0.5f ? CLOUDY : WOOD;
      m.seed |= 1u;
      m.scale = uniform(r, 3, 8);
      m.bump = 0.8f;
      if (chance(r, 0.4f)) m.photo = 0.8f;
      break;
    case MEADOW:
      a = hsv(uniform(r, 0.13f, 0.31f), uniform(r, 0.3f, 0.75f), log_uniform(r, 0.06f, 0.35f));
      if (u < 0.25f) a = hsv(uniform(r, 0.06f, 0.14f), uniform(r, 0.2f, 0.6f), uniform(r, 0.1f, 0.5f));
      c = a * uniform(r, 0.5f, 1.1f) + vec(0.03f, 0.02f, 0);
      m.pattern = GRASS;
      m.scale = log_uniform(r, 0.5f, 4);
      m.bump = 0.8f;
      if (chance(r, 0.4f)) m.photo = uniform(r, 0.3f, 0.9f);
      break;
    case STONE:
      a = grayish(r, 0.08f, 0.5f, 0.3f);
      c = a * uniform(r, 0.4f, 0.9f);
      m.pattern = u < 0.75f ? CLOUDY : MARBLE;
      m.scale = log_uniform(r, 0.4f, 3);
      m.bump = 1;
      if (chance(r, 0.5f)) m.photo = uniform(r, 0.3f, 1.f);
      break;
    case SKIN:
      a = hsv(uniform(r, 0.03f, 0.08f), uniform(r, 0.3f, 0.6f), uniform(r, 0.15f, 0.75f));
      c = a * 0.8f;
      m.pattern = CLOUDY;
      m.specular = 0.1f;
      m.bump = 0.05f;
      break;
    case HAIR:
      a = u < 0.8f ? hsv(0.08f, uniform(r, 0.2f, 0.6f), log_uniform(r, 0.01f, 0.3f)) : gray(uniform(r, 0.2f, 0.7f));
      c = a * 0.6f;
      m.pattern = WOOD;
      m.seed |= 1u;
      m.scale = uniform(r, 8, 20);
      m.bump = 1;
      break;
  }
}

DEVICE_CALL void mix_made_material(Builder& b, int kind, Material& m, Vec3& a, Vec3& c) {
  Rng& r = b.rng;
  float u = uniform(r);
  m.bump = 0;
  switch (kind) {
    case FABRIC:
      m.pattern = u < 0.35f ? WEAVE : u < 0.55f ? CLOUDY : u < 0.67f ? STRIPES : u < 0.74f ? TILES : PLAIN;
      m.scale = m.pattern == WEAVE ? uniform(r, 3, 12) : log_uniform(r, 2, 25);
      m.specular = 0;
      m.bump = uniform(r, 0, 0.6f);
      if (chance(r, 0.4f)) m.photo = uniform(r, 0.2f, 1.f);
      break;
    case LEATHER:
      a = chance(r, 0.5f) ? gray(log_uniform(r, 0.01f, 0.5f)) : hsv(uniform(r, 0, 0.1f), uniform(r, 0.2f, 0.7f), uniform(r, 0.05f, 0.5f));
      c = a * 0.8f;
      m.pattern = CLOUDY;
      m.scale = 6;
      m.specular = uniform(r, 0.1f, 0.4f);
      m.gloss = uniform(r, 10, 50);
      break;
    case PACKAGE:
      a = hsv(uniform(r), uniform(r, 0, 0.9f), uniform(r, 0.1f, 0.85f));
      m.pattern = PRINT;
      m.scale = 1;
      if (u < 0.35f) m.photo = uniform(r, 0.3f, 1.f), m.fit = 1;
      m.specular = uniform(r, 0, 0.3f);
      break;
    case PAPER:
      a = grayish(r, 0.6f, 0.95f, 0.1f);
      c = a;
      m.pattern = u < 0.8f ? PRINT : PLAIN;
      m.specular = 0;
      break;
    case KEYBOARD:
      a = gray(log_uniform(r, 0.01f, 0.7f));
      c = a * uniform(r, 0.2f, 0.6f);
      m.pattern = KEYS;
      break;
    case SCREEN:
      a = u < 0.55f ? gray(0.01f) : hsv(uniform(r, 0.5f, 0.7f), uniform(r, 0, 0.8f), uniform(r, 0.1f, 0.8f));
      m.pattern = u < 0.55f ? PLAIN : PRINT;
      m.emission = u < 0.55f ? 0.f : uniform(r, 0.4f, 1.5f);
      m.specular = 0.4f;
      m.gloss = 120;
      m.reflect = u < 0.55f ? 0.8f : 0.f;
      if (u > 0.75f) m.photo = 2, m.fit = 1;
      break;
    case PLASTIC:
      a = chance(r, 0.5f) ? gray(log_uniform(r, 0.01f, 0.8f)) : hsv(uniform(r), uniform(r, 0.3f, 0.9f), uniform(r, 0.1f, 0.7f));
      m.pattern = PLAIN;
      m.specular = uniform(r, 0.05f, 0.4f);
      break;
    case CERAMIC:
      a = chance(r, 0.6f) ? grayish(r, 0.5f, 0.9f, 0.15f) : made_color(r);
      m.pattern = u < 0.6f ? PLAIN : u < 0.8f ? STRIPES : PRINT;
      m.scale = uniform(r, 10, 40);
      m.specular = uniform(r, 0.1f, 0.5f);
      m.gloss = 120;
      m.reflect = chance(r, 0.5f) ? 0.6f : 0.f;
      break;
    case CAR_PAINT:
      a = chance(r, 0.65f) ? hsv(0.6f, uniform(r, 0, 0.15f), log_uniform(r, 0.02f, 0.85f)) : hsv(uniform(r), uniform(r, 0.4f, 0.9f), uniform(r, 0.1f, 0.6f));
      m.pattern = PLAIN;
      m.specular = 0.6f;
      m.gloss = 80;
      m.reflect = 0.8f;
      break;
    case DARK_GLASS:
      a = c = vec(0.02f, 0.025f, 0.03f);
      m.pattern = PLAIN;
      m.specular = 0.5f;
      m.gloss = 150;
      m.reflect = 0.95f;
      break;
    case BLACK:
      a = c = gray(uniform(r, 0.008f, 0.04f));
      m.pattern = PLAIN;
      m.specular = uniform(r, 0, 0.2f);
      break;
    case METAL:
      a = grayish(r, 0.1f, 0.65f, 0.08f);
      c = a * .7f;
      m.pattern = PLAIN;
      m.specular = 0.6f;
      m.gloss = 60;
      m.reflect = 0.7f;
      break;
    case WHITE:
      a = grayish(r, 0.5f, 0.88f, 0.12f);
      c = a * .9f;
      m.pattern = PLAIN;
      break;
    case GLOW:
    case BRIGHT_WINDOW:
      a = c = vec(1, uniform(r, 0.85f, 1.f), uniform(r, 0.65f, 1.f)) * 0.95f;
      m.pattern = PLAIN;
      m.emission = log_uniform(r, 0.8f, 4.f);
      if (kind == BRIGHT_WINDOW) {
        a = vec(.75f, .85f, .95f);
        c = hsv(uniform(r, 0.1f, 0.35f), 0.4f, uniform(r, 0.2f, 0.9f));
        m.pattern = GRADIENT;
        if (u < 0.4f) m.photo = 2, m.fit = 1;
      }
      break;
    case BOOK_ROW:
      m.pattern = BOOKS;
      m.scale = uniform(r, 0.8f, 1.8f);
      m.specular = 0.05f;
      break;
    case PICTURE:
      m.pattern = PRINT;
      m.photo = chance(r, 0.75f) ? 2.f : 0.f;
      m.fit = 1;
      break;
  }
}

// A new material of a kind, or an old one when the scene has no room for more.
DEVICE_CALL int material(Builder& b, int kind) {
  Scene& s = *b.scene;
  Rng& r = b.rng;
  if (s.material_count >= MAX_MATERIALS) {
    bool special = kind == GLOW || kind == LEAF || kind == FENCE || kind == SCREEN || kind == BRIGHT_WINDOW;
    return special ? NO_MATERIAL : pick(r, 4, MAX_MATERIALS - 1);
  }
  int index = s.material_count++;
  Material& m = b.materials[index];
  m.pattern = PLAIN;
  m.tile = b.library.tile_count > 0 ? pick(r, 0, b.library.tile_count - 1) : 0;
  m.scale = log_uniform(r, 0.5f, 6.f);
  m.specular = chance(r, 0.4f) ? uniform(r, 0, 0.4f) : 0;
  m.gloss = log_uniform(r, 8, 200);
  m.bump = chance(r, 0.3f) ? uniform(r, 0.1f, 0.8f) : 0;
  m.reflect = m.photo = m.fit = m.cut_threshold = m.emission = m.glass = 0;
  m.cut = 0;
  m.seed = hash(r.state + index * 7u);
  Vec3 a = made_color(r), c = made_color(r);
  if (chance(r, 0.5f)) c = a * uniform(r, 0.4f, 1.4f);
  store(m.tint, hsv(uniform(r), uniform(r, 0, 0.3f), 1) * log_uniform(r, 0.6f, 1.5f));
  switch (kind) {
    case ANY:
      m.pattern = pick(r, 0, WEAVE);
      if (m.pattern == FACADE || m.pattern == KEYS || m.pattern == PRINT || m.pattern == BOOKS) m.pattern = PLAIN;
      if (chance(r, 0.45f)) m.photo = chance(r, 0.4f) ? 2.f : uniform(r, 0.3f, 1.f);
      if (chance(r, 0.1f)) m.reflect = uniform(r, 0.2f, 0.9f);
      break;
    case WALL: case CEILING: case FLOOR: case HOUSE_FRONT: case ROAD: case FENCE:
      mix_building_material(b, kind, m, a, c);
      break;
    case TIMBER: case LEAF: case BARK: case MEADOW: case STONE: case SKIN: case HAIR:
      mix_natural_material(b, kind, m, a, c);
      break;
    default: mix_made_material(b, kind, m, a, c);
  }
  store(m.a, a);
  store(m.b, c);
  return index;
}
