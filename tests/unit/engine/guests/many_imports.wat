(module
  (import "a_module_with_a_long_name" "function_number_01" (func))
  (import "a_module_with_a_long_name" "function_number_02" (func))
  (import "a_module_with_a_long_name" "function_number_03" (func))
  (import "a_module_with_a_long_name" "function_number_04" (func))
  (import "a_module_with_a_long_name" "function_number_05" (func))
  (import "a_module_with_a_long_name" "function_number_06" (func))
  (import "a_module_with_a_long_name" "function_number_07" (func)))
