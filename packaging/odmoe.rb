# A formula for Homebrew: brew install --HEAD --formula packaging/odmoe.rb, in a checkout of the repository.
class Odmoe < Formula
  desc "Runs mixture-of-experts language models that are larger than memory"
  homepage "https://odmoe.example"
  license "MIT"
  head "file://#{File.expand_path("..", __dir__)}", using: :git, branch: "main"

  depends_on "cmake" => :build
  depends_on "ninja" => :build
  depends_on "nlohmann-json" => :build
  depends_on "pkgconf" => :build
  depends_on "cli11"
  depends_on "cpp-httplib"
  depends_on "curl"
  depends_on "ftxui"
  depends_on "ggml"
  depends_on "libedit"
  depends_on "openssl@3"
  depends_on "pcre2"
  depends_on "prometheus-cpp"
  depends_on "spdlog"
  depends_on "xxhash"
  depends_on "xz"

  def install
    system "cmake", "-S", ".", "-B", "build", "-G", "Ninja", "-DODMOE_TESTS=OFF", "-DODMOE_TRAIN=OFF",
           *std_cmake_args
    system "cmake", "--build", "build"
    system "cmake", "--install", "build"
  end

  service do
    run [opt_bin/"odmoe", "serve", var/"odmoe/model.gguf"]
    keep_alive successful_exit: false
    log_path var/"log/odmoe.log"
    error_log_path var/"log/odmoe.log"
  end

  test do
    text = shell_output("#{bin}/odmoe run #{share}/odmoe/models/demo.gguf -p 'KING RICHARD:' -n 8 --seed 2")
    refute_empty text.strip
    assert_match version.to_s, shell_output("#{bin}/odmoe --version") unless head?
  end
end
