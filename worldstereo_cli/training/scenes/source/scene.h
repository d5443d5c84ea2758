// What a scene is made of: plain structs of 4-byte words, copied freely between host and device.
#pragma once
#include "base.h"

#define MAX_PRIMITIVES 1024  // a power of two: the tree has one leaf for each
#define ROOM_BUDGET 420       // rooms stop taking furniture here, which bounds the time to trace them
#define MAX_MATERIALS 96
#define MAX_LIGHTS 4
#define MAX_WINDOWS 6
#define NO_MATERIAL -2  // The grammar ran out of materials of a kind; nothing is added.

enum Shape {
  BOX,
  ELLIPSOID,
  CYLINDER,  // along local y
  CONE,      // tip at local y = +1
  PRISM,     // a roof: ridge along local z at y = +1
  QUAD,      // local z = 0
  ROOM,      // a box seen from inside; four materials in a row: floor, walls, ceiling, accent wall
  MESH,      // a triangle mesh scaled to [-1, 1]^3
};

struct Primitive {
  float inverse[9];  // rows: local axes over half sizes; world offset -> unit shape
  float center[3];
  float radius;  // bounding sphere, metres
  float half[3];
  int shape, material;
  float shift;  // moves the texture, so that equal materials do not repeat
  int mesh;
};

enum Pattern {
  PLAIN,
  CLOUDY,
  TILES,
  BRICKS,
  WOOD,
  STRIPES,
  SPECKLES,
  FACADE,
  BOOKS,
  GRADIENT,
  PLANKS,
  MARBLE,
  GRASS,
  PRINT,  // a label or a screen: coloured blocks and lines of something like text
  KEYS,   // a keyboard
  WEAVE,
};

struct Material {
  int pattern, tile;
  float scale;  // pattern cells per metre
  float a[3], b[3];
  float specular, gloss, reflect, bump;
  float photo;  // weight of the photo tile: 0 none, 1 blended, 2 alone
  float fit;    // > 0: the tile spans the face once
  float tint[3];
  int cut;  // 0 solid, 1 leaves, 2 bars, 3 grid
  float cut_threshold;
  float emission;
  float glass;  // share of the light that comes from behind
  u32 seed;
};

struct Light {
  float position[3], color[3];
};

// An opening in a wall of the room: the sun shines through it.
struct Window {
  float center[3], half[3];
};

struct Scene {
  int primitive_count, material_count, category, leaf_count;
  int valid;
  float eye[3];
  float right[3], up[3], forward[3];
  float tan_x, tan_y;  // tangents of half the field of view
  float camera_spread;  // scales how far lenses and cameras stray from the usual ones
  float sun[3], sun_color[3], ambient[3], zenith[3], horizon[3];
  float cloud, cloud_scale, fog;
  float heap;  // cover of heaped clouds, which reach down to the horizon; 0 none
  int sky_map;  // panorama whose light falls into the scene, or -1
  float sky_turn;
  int light_count;
  Light light[MAX_LIGHTS];
  int window_count;
  Window window[MAX_WINDOWS];
  // Ground: 0 none, 1 plane y = 0, 2 heights.
  int ground, ground_material, slope_material, water_material;
  float hill, hill_frequency, mountain, mountain_frequency, mountain_start, mountain_end;
  float water, snow;
  float ridged;  // 1: mountains are ridges, 0: domes
  float snowfields;  // share of the terrain under snow, in patches
  float bank;        // cover of clouds that lie on the mountains; 0 none
  float ripple;      // steepness of waves: 0 is a mirror
  float contact;  // reach of contact shadows, metres
  u32 seed;
};

struct Node {
  float low[3], high[3];
};

struct Triangle {
  float corner[3], edge1[3], edge2[3];
};

struct TriangleLook {
  float normal[9], uv[6];
  int tile;   // photo tile, or -1
  u32 color;  // 0xBBGGRR, sRGB; 0xFF000000: take the primitive's material
};

struct MeshInfo {
  int first_triangle, first_node, leaf_count, group;
  float half[3];  // natural size, metres
  float solid;    // 0: leaves and wires, a camera may stand inside its box
};

#define MESH_LEAF 4  // triangles per leaf of a mesh tree
#define TILE_SIZE 256
#define TILE_LEVELS 6
#define TILE_WORDS 87360  // 256^2 + 128^2 + ... + 8^2
#define SKY_WIDTH 64
#define SKY_HEIGHT 32
#define SKY_HARMONICS 27  // 9 numbers for each of 3 colours, then the map
#define SKY_WORDS (SKY_HARMONICS + SKY_WIDTH * SKY_HEIGHT * 3)

// Read-only data shared by all scenes.
struct Library {
  const u32* tiles;
  int tile_count;
  const float* skies;
  int sky_count;
  const MeshInfo* meshes;
  const Node* mesh_nodes;
  const Triangle* triangles;
  const TriangleLook* looks;
  const int* groups;  // first and count for every MeshGroup
  int has_pictures, has_panoramas;  // 0: tiles or skies are drawn, but not looked at
};

// One scene, ready to be traced.
struct World {
  const Scene* scene;
  const Primitive* primitives;
  const Material* materials;
  const Node* nodes;
  const int* order;
  Library library;
  float pixel;  // width of a pixel at 1 m
};
