// Segments one frame with a model of `unip export --to openvino`: OpenVINO is all that it needs.
//
//   segment model.xml frame.pgm mask.pgm
//
// The frame is a binary PGM file, grey, of 8 or 16 bits; the mask is one too, a class id per pixel. Conversion of
// counts, resizing and normalisation are part of the model. Exit code 2: the frame does not fit the model, or a file
// cannot be read or written.

#include <algorithm>
#include <cctype>
#include <cstdint>
#include <fstream>
#include <iostream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include <openvino/openvino.hpp>

struct Frame {
    size_t width = 0, height = 0;
    int bytes = 1;  // of a sample
    std::vector<int32_t> samples;
};

// Reads a number of a PGM header; comments start with # and end with the line.
static size_t header_number(std::istream& file) {
    while (std::isspace(file.peek()) || file.peek() == '#') {
        if (file.get() == '#') while (file && file.get() != '\n') {}
    }
    size_t value = 0;
    if (!(file >> value)) throw std::runtime_error("the header of the PGM file is damaged");
    return value;
}

static Frame read_pgm(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) throw std::runtime_error("cannot read " + path);
    std::string kind(2, ' ');
    file.read(&kind[0], 2);
    if (kind != "P5") throw std::runtime_error(path + " is not a binary PGM file (P5)");
    Frame frame;
    frame.width = header_number(file);
    frame.height = header_number(file);
    const size_t largest = header_number(file);
    file.get();  // one white space ends the header
    const size_t limit = 65536;
    if (!frame.width || !frame.height || frame.width > limit || frame.height > limit || largest < 1 || largest > 65535)
        throw std::runtime_error(path + " has an impossible size or depth");
    frame.bytes = largest > 255 ? 2 : 1;
    std::vector<char> raw(frame.width * frame.height * frame.bytes);
    if (!file.read(raw.data(), static_cast<std::streamsize>(raw.size())))
        throw std::runtime_error(path + " ends before its last pixel");
    frame.samples.resize(frame.width * frame.height);
    for (size_t i = 0; i < frame.samples.size(); ++i) {
        const auto high = static_cast<uint8_t>(raw[i * frame.bytes]);
        const auto low = static_cast<uint8_t>(raw[i * frame.bytes + frame.bytes - 1]);
        frame.samples[i] = frame.bytes == 2 ? high * 256 + low : low;  // PGM is big-endian
    }
    return frame;
}

// Says why a frame is too large for the model alone; empty if it is not. Cut such frames into tiles, as unip.load does.
static std::string beyond(const Frame& frame, const std::string& limits) {
    double short_side = 0, longest = 0, largest_short = 0, largest_long = 0;  // pixels; the last two are 0 if not known
    if (!(std::istringstream(limits) >> short_side >> longest >> largest_short >> largest_long) || short_side < 1)
        throw std::runtime_error("the model does not say for which sizes it is right: export it again");
    const double small = std::min(frame.width, frame.height), large = std::max(frame.width, frame.height);
    if (largest_short > 0 && (small > largest_short || large > largest_long))
        return "it is larger than the frames of training, and the model is right for no such frames";
    if (large * short_side / small > longest) return "it is longer than the model is right for";
    return "";
}

static ov::Tensor to_tensor(const Frame& frame, const ov::element::Type& type) {
    if (type == ov::element::u8 && frame.bytes != 1)
        throw std::runtime_error("the model takes 8-bit pictures, and the frame has 16 bits");
    if (type == ov::element::i32 && frame.bytes != 2)
        throw std::runtime_error("the model takes counts of more than 8 bits, and the frame has 8");
    if (type != ov::element::u8 && type != ov::element::i32)
        throw std::runtime_error("the model takes temperatures, which PGM cannot hold");
    ov::Tensor tensor(type, {frame.height, frame.width});
    if (type == ov::element::u8)
        std::copy(frame.samples.begin(), frame.samples.end(), tensor.data<uint8_t>());
    else
        std::copy(frame.samples.begin(), frame.samples.end(), tensor.data<int32_t>());
    return tensor;
}

static void write_pgm(const std::string& path, const ov::Tensor& ids) {
    std::ofstream file(path, std::ios::binary);
    file << "P5\n" << ids.get_shape()[1] << " " << ids.get_shape()[0] << "\n255\n";
    file.write(reinterpret_cast<const char*>(ids.data<uint8_t>()), static_cast<std::streamsize>(ids.get_size()));
    if (!file.flush()) throw std::runtime_error("cannot write " + path);
}

static void segment(const std::string& model_path, const std::string& frame_path, const std::string& mask_path) {
    const Frame frame = read_pgm(frame_path);
    ov::Core core;
    const auto model = core.read_model(model_path);
    if (!model->has_rt_info("unip_limits")) throw std::runtime_error(model_path + " was not exported by unip");
    const std::string why = beyond(frame, model->get_rt_info<std::string>("unip_limits"));
    if (!why.empty()) throw std::runtime_error(frame_path + ": " + why + "; cut it into tiles");
    if (model->input().get_partial_shape().size() != 2)
        throw std::runtime_error("the model takes colour frames, and the frame is grey");
    // by itself OpenVINO computes in bfloat16 where the processor has it; counts need more digits
    const auto exact = ov::hint::inference_precision(ov::element::f32);
    auto request = core.compile_model(model, "CPU", exact).create_infer_request();
    request.set_input_tensor(to_tensor(frame, model->input().get_element_type()));
    request.infer();
    write_pgm(mask_path, request.get_tensor("ids"));
    const ov::Tensor confidence = request.get_tensor("confidence");
    double sum = 0;
    for (size_t i = 0; i < confidence.get_size(); ++i) sum += confidence.data<float>()[i];
    std::cout << mask_path << ": " << frame.width << "x" << frame.height << ", mean confidence "
              << sum / static_cast<double>(confidence.get_size()) << "\n";
}

int main(int count, char** arguments) {
    if (count != 4) {
        std::cerr << "usage: segment model.xml frame.pgm mask.pgm\n";
        return 2;
    }
    try {
        segment(arguments[1], arguments[2], arguments[3]);
    } catch (const std::exception& error) {
        std::cerr << "error: " << error.what() << "\n";
        return 2;
    }
    return 0;
}
