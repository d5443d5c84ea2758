// A pane of glass before a glowing wall: prints depth and colour of the middle pixel with glass, and of the same
// pane when it is opaque.
#include <cstdio>
#include <vector>

#include "render.h"

static void look(float glass, float* depth, Vec3* light) {
  Scene scene = {};
  std::vector<Primitive> primitives(MAX_PRIMITIVES);
  std::vector<Material> materials(MAX_MATERIALS);
  std::vector<Node> nodes(2 * MAX_PRIMITIVES);
  std::vector<int> order(MAX_PRIMITIVES);
  std::vector<u32> keys(MAX_PRIMITIVES);
  Library library = {};
  clear_scene(scene, 1);
  scene.ground = 0;
  scene.camera_spread = 1;
  scene.material_count = 2;
  materials[0] = Material();
  materials[1] = Material();
  store(materials[0].a, vec(.5f, .9f, .9f));  // the pane: takes half of the red, a tenth of the rest
  materials[0].glass = glass;
  store(materials[1].a, vec(.9f, .6f, .3f));  // the wall
  materials[1].emission = 1;
  Builder b;
  b.scene = &scene;
  b.primitives = primitives.data();
  b.materials = materials.data();
  b.library = library;
  b.rng.state = 1;
  Frame f = frame_at(0, 0, 0, 0);
  add(b, f, BOX, 0, vec(0, 0, 2), vec(1, 1, .05f));
  add(b, f, BOX, 1, vec(0, 0, 5), vec(9, 9, .1f));
  set_lens(scene, 60, 1);
  turn_camera(scene, vec(0, 0, 0), 0, 0, 0);
  build_tree(primitives.data(), scene, keys.data(), order.data(), nodes.data(), 0, 1);
  World w = {&scene, primitives.data(), materials.data(), nodes.data(), order.data(), library, .01f};
  *light = render_pixel(w, scene_camera(scene, 9, 9), 4, 4, 1, 1, *depth);
}

int main() {
  for (int i = 0; i < 2; i++) {
    float depth;
    Vec3 light;
    look(i ? 0.f : 1.f, &depth, &light);
    std::printf("%f %f %f %f\n", depth, light.x, light.y, light.z);
  }
}
