fn main() {
    weft::main_placeholder()
}
