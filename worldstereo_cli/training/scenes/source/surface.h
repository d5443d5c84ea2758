// Colour of surfaces: procedural patterns, photo tiles, terrain.
#pragma once
#include "tree.h"

DEVICE Vec3 unpack_color(u32 c) {  // 8-bit sRGB to linear, approximately
  Vec3 v = vec((c & 255) * (1 / 255.f), ((c >> 8) & 255) * (1 / 255.f), ((c >> 16) & 255) * (1 / 255.f));
  return v * v;
}

// A photo tile at (u, v), in tiles; it repeats mirrored. `footprint`: tiles per pixel.
DEVICE_CALL Vec3 sample_tile(const Library& library, int tile, float u, float v, float footprint) {
  if (tile < 0 || tile >= library.tile_count) return gray(0.5f);
  int level = (int)floorf(log2f(fmaxf(footprint * TILE_SIZE, 1.f)) + 0.3f);
  if (level > TILE_LEVELS - 1) level = TILE_LEVELS - 1;
  const u32* texels = library.tiles + (size_t)tile * TILE_WORDS;
  for (int i = 0; i < level; i++) texels += (TILE_SIZE >> i) * (TILE_SIZE >> i);
  int n = TILE_SIZE >> level;
  u -= 2 * floorf(u * 0.5f);
  v -= 2 * floorf(v * 0.5f);
  if (u > 1) u = 2 - u;
  if (v > 1) v = 2 - v;
  float x = clamp(u * n - 0.5f, 0.f, n - 1.f), y = clamp(v * n - 0.5f, 0.f, n - 1.f);
  int x0 = (int)x, y0 = (int)y, x1 = x0 + 1 < n ? x0 + 1 : x0, y1 = y0 + 1 < n ? y0 + 1 : y0;
  x -= x0;
  y -= y0;
  return mix(mix(unpack_color(texels[y0 * n + x0]), unpack_color(texels[y0 * n + x1]), x),
             mix(unpack_color(texels[y1 * n + x0]), unpack_color(texels[y1 * n + x1]), x), y);
}

// A point on a surface, as patterns see it.
struct Place {
  Vec3 q;      // metres, in the primitive's own axes
  Vec3 unit;   // the same in [-1, 1]
  float u, v;  // metres along the face
  float unit_u, unit_v;
  float footprint;  // metres per pixel
};

DEVICE Place place_on_face(Vec3 q, Vec3 unit, Vec3 n, float footprint) {
  float x = fabsf(n.x), y = fabsf(n.y), z = fabsf(n.z);
  Place p = {q, unit, q.x, q.y, unit.x, unit.y, footprint};
  if (y > x && y > z) {
    p.v = q.z;
    p.unit_v = unit.z;
  } else if (x > z) {
    p.u = q.z;
    p.unit_u = unit.z;
  }
  return p;
}

DEVICE Vec3 pattern_tiles(const Material& m, const Place& p, bool bricks) {
  float x = p.u * m.scale, y = p.v * m.scale * (bricks ? 2.2f : 1.f), f = p.footprint * m.scale;
  if (bricks && ((int)floorf(y) & 1)) x += 0.5f;
  int i = (int)floorf(x), j = (int)floorf(y);
  float gap = (m.seed & 3) == 0 ? 0.012f : 0.04f;
  bool in_gap = fraction(x) < gap || fraction(y) < gap * (bricks ? 2.2f : 1.f);
  Vec3 a = vec(m.a), b = vec(m.b), cell = a * (0.85f + 0.3f * lattice(i, j, m.seed));
  bool checkers = !bricks && (m.seed & 28) == 4;
  if (checkers) cell = ((i + j) & 1) ? b : a;
  Vec3 mean = mix(a, b, checkers ? 0.5f : 0.08f);
  return mix(mean, in_gap ? b : cell, 1 - smooth(0.25f, 0.7f, f));
}

DEVICE Vec3 pattern_wood(const Material& m, const Place& p) {
  bool along_y = m.seed & 1;
  Vec3 g = vec(p.q.x, p.q.y * (along_y ? 0.08f : 1.f), p.q.z * (along_y ? 1.f : 0.08f)) * m.scale;
  float w = fractal(g * 1.5f, 4, m.seed, p.footprint * m.scale * 2);
  float ring = sinf(w * 22.f + g.x * 2.f) * (1 - smooth(0.1f, 0.4f, p.footprint * m.scale));
  float strength = 0.15f + 0.35f * ((m.seed >> 5) & 15) / 15.f;
  return mix(vec(m.a), vec(m.b), saturate(0.5f + strength * ring + (w - 0.5f)));
}

DEVICE Vec3 pattern_planks(const Material& m, const Place& p) {
  float y = p.v * m.scale * 5, row = floorf(y);
  float x = p.u * m.scale * 0.8f + lattice((int)row, 7, m.seed), f = p.footprint * m.scale * 2;
  float grain = fractal(vec(x * 1.6f, y * 4.f, row * 3.f), 3, m.seed, f * 2);
  Vec3 a = vec(m.a), b = vec(m.b);
  Vec3 plank = mix(a, b, grain * 0.6f + 0.4f * lattice((int)floorf(x), (int)row, m.seed));
  bool gap = y - row < 0.04f || fraction(x) < 0.008f;
  return mix(mix(a, b, 0.5f), gap ? a * 0.4f : plank, 1 - smooth(0.06f, 0.25f, f));
}

DEVICE_CALL Vec3 pattern_facade(const Material& m, const Place& p) {
  float x = p.u * m.scale * 0.5f, y = p.v * m.scale * 0.4f, fx = fraction(x), fy = fraction(y);
  float wide = 0.12f + 0.2f * ((m.seed >> 4) & 15) / 15.f, high = 0.12f + 0.22f * ((m.seed >> 8) & 15) / 15.f;
  float room = lattice((int)floorf(x), (int)floorf(y), m.seed);
  bool window = fx > wide && fx < 1 - wide && fy > high && fy < 1 - high * 0.7f;
  bool frame = window && (fabsf(fx - 0.5f) < 0.02f || fx < wide + 0.03f || fx > 1 - wide - 0.03f ||
                          fy < high + 0.03f || fy > 1 - high * 0.7f - 0.03f);
  Vec3 a = vec(m.a), b = vec(m.b), pane = b * (0.3f + 0.9f * room * (1.2f - fy));
  if (room > 0.93f) pane = vec(.9f, .8f, .55f);
  bool ledge = fy < 0.04f || (fy > high - 0.03f && fy < high && fx > wide - 0.03f && fx < 1.03f - wide);
  Vec3 wall = a * (0.8f + 0.4f * fractal(p.q * 1.7f, 3, m.seed, p.footprint * 1.7f));
  if (m.seed & 64) wall = wall * (fraction(p.v * 12.f) < 0.1f ? 0.8f : 1.f);
  Vec3 color = window ? (frame ? gray(0.6f) : pane) : (ledge ? a * 1.2f : wall);
  return mix(mix(a, b, 0.35f), color, 1 - smooth(0.12f, 0.35f, p.footprint * m.scale * 0.5f));
}

DEVICE Vec3 pattern_books(const Material& m, const Place& p) {
  float x = p.u * m.scale * 22.f;
  int i = (int)floorf(x), j = (int)floorf(p.v * m.scale * 3);
  Vec3 hue = vec(lattice(i, 1, m.seed), lattice(i, 2, m.seed), lattice(i, 3, m.seed));
  Vec3 color = mix(gray(lattice(i, j, m.seed)), hue * hue, 0.6f);
  float text = fabsf(fraction(x) - 0.5f) < 0.12f && lattice(i, (int)(p.v * 180), m.seed) > 0.4f ? 0.5f : 0.f;
  color = mix(color, gray(lattice(i, 9, m.seed)), text);
  return mix(mix(vec(m.a), vec(m.b), .5f), fraction(x) < 0.1f ? color * 0.3f : color,
             1 - smooth(0.1f, 0.5f, p.footprint * m.scale * 22));
}

// Blocks of colour with lines of something like text: packages, papers, posters, screens.
DEVICE_CALL Vec3 pattern_print(const Material& m, const Place& p) {
  float u = 0.5f + 0.5f * p.unit_u, v = 0.5f - 0.5f * p.unit_v;
  Vec3 color = vec(m.a);
  for (int k = 0; k < 5; k++) {
    u32 s = m.seed + 31u * k;
    float x = lattice(k, 1, s), y = lattice(k, 2, s), w = 0.1f + 0.5f * lattice(k, 3, s), h = 0.05f + 0.3f * lattice(k, 4, s);
    bool inside = lattice(k, 9, s) < 0.3f ? (u - x) * (u - x) + (v - y) * (v - y) < h * h * 0.5f
                                          : fabsf(u - x) < w && fabsf(v - y) < h;
    if (inside) color = mix(vec(lattice(k, 5, s), lattice(k, 6, s), lattice(k, 7, s)), vec(m.b), lattice(k, 8, s));
  }
  float lines = 18.f + 30.f * lattice(0, 3, m.seed), row = floorf(v * lines);
  bool paragraph = lattice((int)(v * 4), (int)(u * 2.3f), m.seed + 7u) > 0.6f;
  float word = lattice((int)(u * lines * 1.5f), (int)row, m.seed + 3u);
  float fade = 1 - smooth(0.02f, 0.06f, p.footprint / fmaxf(0.02f, 0.3f / m.scale) * 0.1f);
  if (paragraph && fraction(v * lines) < 0.5f && word > 0.25f && u > 0.08f && u < 0.92f && lattice(0, 4, m.seed) < 0.7f)
    color = mix(color, gray(dot(color, gray(0.33f)) > 0.3f ? 0.03f : 0.9f), 0.8f * fade);
  return color;
}

DEVICE Vec3 pattern_keys(const Material& m, const Place& p) {
  float x = (0.5f + 0.5f * p.unit_u) * 17.f, y = (0.5f + 0.5f * p.unit_v) * 6.f;
  bool key = fraction(x + 0.35f * floorf(y)) > 0.13f && fraction(y) > 0.15f && fabsf(p.unit_u) < 0.97f;
  return key ? vec(m.a) : vec(m.b);
}

DEVICE Vec3 pattern_grass(const Material& m, const Place& p) {
  float fine = noise(p.q * 40.f, m.seed) * (1 - smooth(0.2f, 0.6f, p.footprint * 40));
  float w = fractal(p.q * (m.scale * 3), 3, m.seed, p.footprint * m.scale * 3) * 0.7f + 0.3f * fine;
  float patches = fractal(p.q * (m.scale * 0.2f), 3, m.seed + 5, p.footprint * m.scale * .2f);
  return mix(vec(m.a), vec(m.b), smooth(0.3f, 0.7f, patches)) * (0.45f + 1.1f * w);
}

DEVICE_CALL Vec3 pattern_color(const Material& m, const Place& p) {
  Vec3 a = vec(m.a), b = vec(m.b);
  float f = p.footprint * m.scale;
  switch (m.pattern) {
    case CLOUDY: return mix(a, b, smooth(0.25f, 0.75f, fractal(p.q * m.scale, 4, m.seed, f)));
    case TILES: return pattern_tiles(m, p, false);
    case BRICKS: return pattern_tiles(m, p, true);
    case WOOD: return pattern_wood(m, p);
    case STRIPES: {
      float duty = 0.2f + 0.6f * ((m.seed >> 3) & 255) / 255.f;
      float t = fraction(((m.seed & 1) ? p.u : p.v) * m.scale);
      return mix(mix(a, b, 1 - duty), t < duty ? a : b, 1 - smooth(0.25f, 0.7f, f));
    }
    case SPECKLES: {
      float w = noise(p.q * (m.scale * 4), m.seed);
      return mix(a, w > 0.62f ? b : a * (0.8f + 0.4f * w), 1 - smooth(0.1f, 0.3f, f));
    }
    case FACADE: return pattern_facade(m, p);
    case BOOKS: return pattern_books(m, p);
    case GRADIENT: return mix(a, b, saturate(0.5f + 0.5f * p.unit_v));
    case PLANKS: return pattern_planks(m, p);
    case MARBLE: {
      float w = fractal(p.q * m.scale, 4, m.seed, f);
      return mix(a, b, saturate(fabsf(sinf(p.q.x * m.scale * 3 + w * 14)) * 0.8f) * (1 - smooth(0.25f, 0.7f, f)));
    }
    case GRASS: return pattern_grass(m, p);
    case PRINT: return pattern_print(m, p);
    case KEYS: return pattern_keys(m, p);
    case WEAVE: {
      float x = sinf(p.u * m.scale * 40.f), y = sinf(p.v * m.scale * 40.f);
      float keep = 1 - smooth(0.1f, 0.5f, f * 13.f), cloud = fractal(p.q * m.scale, 3, m.seed, f);
      return mix(a, b, saturate(0.5f + 0.3f * x * y * keep + 0.5f * (cloud - 0.5f)));
    }
    default: return a;
  }
}

DEVICE_CALL Vec3 surface_color(const Library& library, const Material& m, const Place& p) {
  Vec3 color = pattern_color(m, p);
  if (m.photo > 0 && library.tile_count > 0 && library.has_pictures) {
    Vec3 t;
    if (m.fit > 0) {
      t = sample_tile(library, m.tile, 0.5f + 0.5f * p.unit_u, 0.5f - 0.5f * p.unit_v, p.footprint * m.fit);
    } else {
      float scale = clamp(m.scale * 0.7f, 0.08f, 3.f);
      t = sample_tile(library, m.tile, p.u * scale + 0.37f, -p.v * scale + 0.11f, p.footprint * scale);
    }
    t = t * vec(m.tint);
    color = m.photo > 1 ? t : mix(color, color * (t * 2.2f) + t * 0.15f, m.photo);
  }
  return vec(clamp(color.x, .005f, .95f), clamp(color.y, .005f, .95f), clamp(color.z, .005f, .95f));
}

#define TERRAIN_OCTAVES 4

DEVICE_CALL float terrain_height(const Scene& s, float x, float z, int octaves) {
  float h = s.hill * (fractal(x * s.hill_frequency, z * s.hill_frequency, octaves, s.seed) - 0.5f) * 2;
  float rise = s.mountain > 0 ? smooth(s.mountain_start, s.mountain_end, sqrtf(x * x + z * z)) : 0.f;
  if (rise > 0) {
    float n = fractal(x * s.mountain_frequency, z * s.mountain_frequency, octaves + 1, s.seed + 991u);
    float ridge = 1 - fabsf(2 * n - 1);
    h += rise * s.mountain * (s.ridged > 0.5f ? ridge * ridge * 1.3f : n * n * 1.5f);
  }
  return h;
}

struct Surface {
  Vec3 point, normal, color;
  float specular, gloss, reflect, emission, glass;
};

DEVICE void finish_surface(const Material& m, Surface& s) {
  s.specular = m.specular;
  s.gloss = m.gloss;
  s.reflect = m.reflect;
  s.emission = m.emission;
  s.glass = m.glass;
}

DEVICE_CALL void water_surface(const World& w, float distance, Surface& s) {
  const Scene& scene = *w.scene;
  float k = 2.f, e = 0.02f + 0.03f * distance, ripple = scene.ripple / (1 + 0.05f * distance);
  float n0 = fractal(s.point.x * k, s.point.z * k, 3, scene.seed + 5);
  float nx = fractal((s.point.x + e) * k, s.point.z * k, 3, scene.seed + 5);
  float nz = fractal(s.point.x * k, (s.point.z + e) * k, 3, scene.seed + 5);
  s.normal = normalize(vec(-(nx - n0) / e * ripple, 1, -(nz - n0) / e * ripple));
  s.color = vec(w.materials[scene.water_material].a) * 0.25f;
  s.specular = 0.5f;
  s.gloss = 200;
  s.reflect = 1;
  s.emission = s.glass = 0;
}

DEVICE_CALL void ground_surface(const World& w, float distance, Surface& s) {
  const Scene& scene = *w.scene;
  const Material& m = w.materials[scene.ground_material];
  float footprint = distance * w.pixel;
  Vec3 up = vec(0, 1, 0), p = s.point;
  s.normal = up;
  s.color = surface_color(w.library, m, place_on_face(p, p * 0.05f, up, footprint));
  finish_surface(m, s);
  if (scene.ground != 2) return;
  float e = fmaxf(0.01f, footprint * 1.5f), y = terrain_height(scene, p.x, p.z, TERRAIN_OCTAVES);
  s.normal = normalize(vec(-(terrain_height(scene, p.x + e, p.z, TERRAIN_OCTAVES) - y) / e, 1,
                           -(terrain_height(scene, p.x, p.z + e, TERRAIN_OCTAVES) - y) / e));
  Vec3 steep = vec(fabsf(s.normal.x), 0.8f, fabsf(s.normal.z));
  Vec3 slope = surface_color(w.library, w.materials[scene.slope_material], place_on_face(p, p * 0.05f, steep, footprint));
  float flat = smooth(0.75f, 0.9f, s.normal.y + 0.25f * (noise(p.x * 0.7f, p.z * 0.7f, scene.seed) - 0.5f));
  s.color = mix(slope, s.color, flat);
  if (scene.snow > 0.5f && scene.mountain > 0) {
    float line = p.y / scene.mountain + 0.2f * noise(p.x * 0.02f, p.z * 0.02f, scene.seed);
    s.color = mix(s.color, vec(.85f, .87f, .9f), smooth(0.35f, 0.55f, line) * smooth(0.4f, 0.7f, s.normal.y));
  }
  if (scene.snowfields > 0) {
    float n = fractal(p.x * .11f, p.z * .11f, 4, scene.seed + 303u) + .15f * (p.y / (scene.mountain + 20.f));
    float lies = smooth(0.f, .03f, n - .75f + .5f * scene.snowfields) * smooth(.45f, .6f, s.normal.y);
    s.color = mix(s.color, vec(.86f, .89f, .93f), lies);
  }
  if (scene.bank > 0) {  // white as the clouds in the sky, but as far as what it hides
    float far = smooth(scene.mountain_start * .6f, scene.mountain_end, sqrtf(p.x * p.x + p.z * p.z));
    float k = 2.5f / (scene.mountain + 20.f), n = fractal(vec(p.x * k, p.y * k * 2.2f, p.z * k), 5, scene.seed + 71u, 0);
    float cover = far * smooth(0.f, .12f, n - 1 + scene.bank);
    s.color = mix(s.color, gray(.75f + .2f * n), cover);
    s.normal = normalize(mix(s.normal, up, cover));
  }
  float g = 12.f, rough = (1 - smooth(0.3f, 1.f, footprint * g)) * m.bump * 1.5f;
  if (rough > 0.01f)
    s.normal = normalize(s.normal + vec(noise(p.x * g, p.z * g, 11u) - 0.5f, 0, noise(p.x * g, p.z * g, 17u) - 0.5f) * rough);
}

// A fine relief: the normal tilts along the gradient of a noise.
DEVICE_CALL Vec3 bumped(const Material& m, Vec3 q, Vec3 n, Vec3 d, float footprint) {
  float g = m.scale * 3, strength = m.bump * (1 - smooth(0.3f, 1.f, footprint * g)), e = 0.2f;
  if (strength < 0.01f) return n;
  q = q * g;
  Vec3 slope = vec(noise(q + vec(e, 0, 0), m.seed) - noise(q - vec(e, 0, 0), m.seed),
                   noise(q + vec(0, e, 0), m.seed) - noise(q - vec(0, e, 0), m.seed),
                   noise(q + vec(0, 0, e), m.seed) - noise(q - vec(0, 0, e), m.seed));
  n = normalize(n + slope * (strength * 2));
  return dot(n, d) > 0 ? n - d * (1.02f * dot(n, d)) : n;
}

DEVICE_CALL void mesh_surface(const World& w, const Primitive& p, const MeshHit& hit, Vec3 d, float footprint, Surface& s) {
  const TriangleLook& look = w.library.looks[hit.triangle];
  const float *n = look.normal, *uv = look.uv;
  float a = 1 - hit.u - hit.v, b = hit.u, c = hit.v;
  Vec3 local = vec(n) * a + vec(n + 3) * b + vec(n + 6) * c;
  s.normal = normal_to_world(p, local);
  Vec3 unit = to_local(p, s.point), q = vec(unit.x * p.half[0], unit.y * p.half[1], unit.z * p.half[2]);
  const Material& m = w.materials[p.material];
  finish_surface(m, s);
  bool own = look.color != 0xFF000000u;
  bool has_tile = look.tile >= 0 && w.library.has_pictures;
  if (has_tile) {
    float u = uv[0] * a + uv[2] * b + uv[4] * c, v = uv[1] * a + uv[3] * b + uv[5] * c;
    s.color = sample_tile(w.library, look.tile, fraction(u), fraction(v), footprint / fmaxf(p.radius, 0.05f));
  } else {
    s.color = own ? unpack_color(look.color)
                  : surface_color(w.library, m, place_on_face(q + gray(p.shift), unit, local, footprint));
  }
  if (own || has_tile) {
    s.emission = 0;
    s.color = s.color * mix(gray(1.f), vec(m.tint), 0.4f);
  }
  if (dot(s.normal, d) > 0) s.normal = s.normal * -1.f;
  if (m.bump > 0) s.normal = bumped(m, q, s.normal, d, footprint);
}

DEVICE_CALL void primitive_surface(const World& w, const Primitive& p, Vec3 d, float footprint, Surface& s) {
  Vec3 unit = to_local(p, s.point), n = shape_normal(p.shape, unit);
  s.normal = normal_to_world(p, n);
  if (dot(s.normal, d) > 0) s.normal = s.normal * -1.f;
  int index = p.material;
  if (p.shape == ROOM) index += n.y < -0.5f ? 0 : n.y > 0.5f ? 2 : n.x > 0.5f ? 3 : 1;
  const Material& m = w.materials[index];
  Vec3 q = vec(unit.x * p.half[0], unit.y * p.half[1], unit.z * p.half[2]);
  if (m.pattern != FACADE) q = q + vec(0.13f, 0.07f, 0.05f) * p.shift;
  s.color = surface_color(w.library, m, place_on_face(q, unit, n, footprint));
  if (m.bump > 0) s.normal = bumped(m, q, s.normal, d, footprint);
  finish_surface(m, s);
}
