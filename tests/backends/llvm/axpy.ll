; y = 2*x + y
; nodes: Mul_0, Add_1
; x: input, 32 x f32
; y: output, 32 x f32
define hidden void @net_axpy(ptr noalias nocapture readonly %x, ptr noalias nocapture %y) #0 {
entry:
  br label %i_loop
i_loop:
  %i = phi i64 [ 0, %entry ], [ %v.4, %i_body ]
  %v = icmp slt i64 %i, 32
  br i1 %v, label %i_body, label %i_done
i_body:
  %x_at = getelementptr inbounds float, ptr %x, i64 %i
  %v.1 = load <4 x float>, ptr %x_at, align 4
  %y_at = getelementptr inbounds float, ptr %y, i64 %i
  %v.2 = load <4 x float>, ptr %y_at, align 4
  %v.3 = call <4 x float> @llvm.fma.v4f32(<4 x float> %v.1, <4 x float> splat (float 0x4000000000000000), <4 x float> %v.2)
  store <4 x float> %v.3, ptr %y_at, align 4
  %v.4 = add nsw i64 %i, 4
  br label %i_loop
i_done:
  ret void
}
