// A picture from C++: handles that free themselves, a run on a thread of its own, and a click that cancels the next one.
//
//     c++ -std=c++17 worker.cpp $(pkg-config --cflags --libs afterimage) -o worker && ./worker
#include <afterimage.h>

#include <atomic>
#include <cstdio>
#include <future>
#include <memory>
#include <stdexcept>
#include <string>

template <typename T, afterimage_code (*release)(T *)>
struct Free {
  void operator()(T *handle) const { release(handle); }
};
using Model = std::unique_ptr<afterimage_model, Free<afterimage_model, afterimage_model_free>>;
using Result = std::unique_ptr<afterimage_result, Free<afterimage_result, afterimage_result_free>>;
using Cancel = std::unique_ptr<afterimage_cancel, Free<afterimage_cancel, afterimage_cancel_free>>;

// Turns what a call answered into an exception, on this side of the border.
static void check(afterimage_code code, afterimage_error **error) {
  if (code == AFTERIMAGE_CODE_OK) return;
  std::string message = afterimage_error_message(*error);
  afterimage_error_free(*error);
  throw std::runtime_error(message);
}

static Model open(const char *name) {
  afterimage_model *model = nullptr;
  afterimage_error *error = nullptr;
  check(afterimage_model_open(name, nullptr, &model, &error), &error);
  return Model(model);
}

static Result run(const Model &model, const std::string &recipe, const Cancel &cancel, std::atomic<int> &steps) {
  afterimage_callbacks callbacks{};
  callbacks.size = sizeof callbacks;
  callbacks.user_data = &steps;
  callbacks.progress = [](void *steps, const afterimage_progress *) {
    ++*static_cast<std::atomic<int> *>(steps);
    return 0;
  };
  afterimage_result *result = nullptr;
  afterimage_error *error = nullptr;
  check(afterimage_run(model.get(), recipe.c_str(), &callbacks, cancel.get(), &result, &error), &error);
  return Result(result);
}

int main() try {
  const std::string recipe = R"({"version": 1, "prompts": ["a white star"], "seed": 3, "steps": 8})";
  Model model = open("bundled");
  afterimage_cancel *token = nullptr;
  afterimage_error *error = nullptr;
  check(afterimage_cancel_new(&token, &error), &error);
  Cancel cancel(token);
  std::atomic<int> steps{0};
  auto work = [&] { return run(model, recipe, cancel, steps); };
  Result result = std::async(std::launch::async, work).get();
  afterimage_shape shape{};
  shape.size = sizeof shape;
  check(afterimage_result_shape(result.get(), &shape, &error), &error);
  std::printf("%d model calls, %dx%d pixels\n", steps.load(), int(shape.width), int(shape.height));

  auto second = std::async(std::launch::async, work);
  afterimage_cancel_now(cancel.get());  // a click, from another thread than the run's
  try {
    second.get();
  } catch (const std::runtime_error &cancelled) {
    std::printf("the second run: %s\n", cancelled.what());
  }
  return 0;
} catch (const std::exception &error) {
  std::fprintf(stderr, "error: %s\n", error.what());
  return 1;
}
