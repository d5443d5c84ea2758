// Where cameras stand and look.
#pragma once
#include "furniture.h"

// `fov` is the angle across the longer side of the image, degrees.
DEVICE void set_lens(Scene& s, float fov, float aspect) {
  float t = tanf(clamp(62 + (fov - 62) * s.camera_spread, 10.f, 120.f) * .5f * PI / 180);
  s.tan_x = aspect >= 1 ? t : t * aspect;
  s.tan_y = aspect >= 1 ? t / aspect : t;
}

// `yaw`, `pitch` and `roll` are taken as they are.
DEVICE_CALL void turn_camera(Scene& s, Vec3 eye, float yaw, float pitch, float roll) {
  store(s.eye, eye);
  float cp = cosf(pitch), cr = cosf(roll), sr = sinf(roll);
  Vec3 forward = vec(sinf(yaw) * cp, sinf(pitch), cosf(yaw) * cp), right = vec(cosf(yaw), 0, -sinf(yaw)), up = cross(forward, right);
  store(s.forward, forward);
  store(s.right, right * cr + up * sr);
  store(s.up, up * cr - right * sr);
}

// A camera that is level but for how far it strays.
DEVICE void set_camera(Scene& s, Vec3 eye, float yaw, float pitch, float roll) {
  turn_camera(s, eye, yaw, pitch * s.camera_spread, roll * s.camera_spread);
}

DEVICE void aim_camera(Scene& s, Vec3 eye, Vec3 target, float yaw_error, float pitch_error, float roll) {
  Vec3 d = target - eye;
  float k = s.camera_spread, yaw = atan2f(d.x, d.z), pitch = atan2f(d.y, sqrtf(d.x * d.x + d.z * d.z));
  turn_camera(s, eye, yaw + yaw_error * k, pitch + pitch_error * k, roll * k);
}

DEVICE float camera_roll(Rng& r) { return normal(r) * (chance(r, .2f) ? .12f : .025f); }

// RGB-D cameras see about 58 to 70 degrees across, phones 50 to 75, a few are wide or long.
DEVICE_CALL float indoor_fov(Rng& r) {
  float u = uniform(r);
  if (u < .45f) return uniform(r, 57, 66);
  if (u < .85f) return clamp(62 + normal(r) * 11, 38, 90);
  return u < .95f ? uniform(r, 75, 100) : uniform(r, 35, 50);
}
DEVICE_CALL float outdoor_fov(Rng& r) { return clamp(64 + normal(r) * 14, 32, 102); }

struct Room {
  float wide, deep, high;  // along x, z, y; the floor's centre is the origin
};

DEVICE Vec3 inside_room(Room room, Vec3 p, float margin) {
  return vec(clamp(p.x, margin - room.wide * .5f, room.wide * .5f - margin), clamp(p.y, .12f, room.high - .12f),
             clamp(p.z, margin - room.deep * .5f, room.deep * .5f - margin));
}

// A photographer shows the room: from an end or a corner, level, at chest or eye height.
DEVICE_CALL void room_camera(Builder& b, Room room, float aspect) {
  Rng& r = b.rng;
  set_lens(*b.scene, indoor_fov(r), aspect);
  Vec3 eye = vec(uniform(r, -.45f, .45f) * room.wide, uniform(r, .8f, 1.75f), -room.deep * uniform(r, .2f, .48f));
  if (chance(r, .5f)) eye.z = -eye.z;
  eye = inside_room(room, eye, .15f);
  Vec3 target = vec(uniform(r, -.25f, .25f) * room.wide, eye.y, -eye.z * uniform(r, 0.f, 1.f));
  if (chance(r, .12f)) target = vec(uniform(r, -.5f, .5f) * room.wide, eye.y, eye.z * 1.1f);
  aim_camera(*b.scene, eye, target, normal(r) * .15f, normal(r) * .13f - .1f, camera_roll(r));
}

// A hand holds a depth camera: close to things, tilted, often looking down, often without floor or horizon.
DEVICE_CALL void handheld_camera(Builder& b, Room room, float aspect) {
  Rng& r = b.rng;
  set_lens(*b.scene, indoor_fov(r), aspect);
  Vec3 target = vec(uniform(r, -.4f, .4f) * room.wide, uniform(r, 0.f, 1.3f), uniform(r, -.4f, .4f) * room.deep);
  if (b.interest_count > 0 && chance(r, .8f)) target = b.interest[pick(r, 0, b.interest_count - 1)];
  float distance = log_uniform(r, .6f, 3.6f);
  Vec3 eye = target;
  for (int i = 0; i < 6; i++) {  // stand on the side of the target where the room is
    float angle = uniform(r, 0, TAU);
    float side = distance * uniform(r, .6f, 1.f);
    eye = vec(target.x + sinf(angle) * side, uniform(r, .3f, 1.8f), target.z + cosf(angle) * side);
    if (fabsf(eye.x) < room.wide * .5f - .2f && fabsf(eye.z) < room.deep * .5f - .2f) break;
  }
  if (chance(r, .5f)) eye.y = target.y + distance * uniform(r, .2f, .9f);
  eye = inside_room(room, eye, .2f);
  float roll = chance(r, .35f) ? normal(r) * .2f : normal(r) * .05f;
  aim_camera(*b.scene, eye, target, normal(r) * .22f, normal(r) * .15f, roll);
  Scene& s = *b.scene;
  float pitch = asinf(clamp(s.forward[1], -1.f, 1.f)), yaw = atan2f(s.forward[0], s.forward[2]);
  turn_camera(s, eye, yaw, clamp(pitch, -1.1f, .4f), roll * s.camera_spread);
}

// A table, its things and what is behind them, from a seat or a tripod.
DEVICE_CALL void tabletop_camera(Builder& b, Room room, Vec3 target, float aspect) {
  Rng& r = b.rng;
  set_lens(*b.scene, chance(r, .6f) ? uniform(r, 55, 70) : uniform(r, 35, 75), aspect);
  float elevation = uniform(r, .05f, 1.25f), distance = log_uniform(r, .35f, 1.7f), yaw = uniform(r, 0, TAU);
  Vec3 eye = target - vec(sinf(yaw) * cosf(elevation), -sinf(elevation), cosf(yaw) * cosf(elevation)) * distance;
  eye = inside_room(room, eye, .1f);
  aim_camera(*b.scene, eye, target, normal(r) * .13f, normal(r) * .1f, camera_roll(r));
}
